package exporter_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/snapshot"
)

// imported is a layer that came from an image, the n-th.
func imported(n string) snapshot.Layer {
	return snapshot.Layer{
		DiffID: digest.FromString("diff " + n),
		Blob:   &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob " + n), Size: 10},
	}
}

// TestPackDocuments pins config and manifest byte for byte. Their form is the
// reference's, so that the same image has the same digests whoever built it.
func TestPackDocuments(t *testing.T) {
	created := time.Date(2024, 5, 6, 7, 8, 9, 10, time.UTC)
	out := exporter.Output{
		Platform: arm64,
		Config: dockerspec.DockerOCIImage{
			Image: ocispec.Image{Platform: arm64, Author: "me <me@example.com>", Created: &created, History: []ocispec.History{
				{Created: &created, CreatedBy: "COPY . . # buildkit", Comment: "buildkit.dockerfile.v0"},
				{Created: &created, CreatedBy: "ENV A=b&c", Comment: "buildkit.dockerfile.v0", EmptyLayer: true},
			}},
			Config: dockerspec.DockerOCIImageConfig{
				ImageConfig: ocispec.ImageConfig{
					User: "nobody", ExposedPorts: map[string]struct{}{"80/tcp": {}}, Env: []string{"A=b&c"},
					Entrypoint: []string{"/entry"}, Cmd: []string{"run"}, Volumes: map[string]struct{}{"/data": {}},
					WorkingDir: "/", Labels: map[string]string{"b": "2", "a": "1"}, StopSignal: "SIGINT",
					//lint:ignore SA1019 images have it, and must keep it
					ArgsEscaped: true,
				},
				DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
					Healthcheck: &dockerspec.HealthcheckConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 3},
					OnBuild:     []string{"RUN true"},
					Shell:       []string{"/bin/bash", "-c"},
				},
			},
		},
		Layers:      []snapshot.Layer{imported("1")},
		Annotations: map[string]string{"org.opencontainers.image.title": "app"},
	}
	store := cachetest.NewMemory()
	img := pack(t, newPool(t), store, exporter.PackOptions{}, out)

	wantConfig := `{"architecture":"arm64","author":"me \u003cme@example.com\u003e",` +
		`"config":{"User":"nobody","ExposedPorts":{"80/tcp":{}},"Env":["A=b\u0026c"],"Entrypoint":["/entry"],"Cmd":["run"],` +
		`"Volumes":{"/data":{}},"WorkingDir":"/","Labels":{"a":"1","b":"2"},"StopSignal":"SIGINT","ArgsEscaped":true,` +
		`"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000,"Retries":3},"OnBuild":["RUN true"],"Shell":["/bin/bash","-c"]},` +
		`"created":"2024-05-06T07:08:09.00000001Z",` +
		`"history":[{"created":"2024-05-06T07:08:09.00000001Z","created_by":"COPY . . # buildkit","comment":"buildkit.dockerfile.v0"},` +
		`{"created":"2024-05-06T07:08:09.00000001Z","created_by":"ENV A=b\u0026c","comment":"buildkit.dockerfile.v0","empty_layer":true}],` +
		`"os":"linux","rootfs":{"type":"layers","diff_ids":["` + imported("1").DiffID.String() + `"]},"variant":"v8"}`
	if diff := cmp.Diff(wantConfig, string(blobBytes(t, store, img.ConfigDesc))); diff != "" {
		t.Errorf("config: %s", diff)
	}
	wantManifest := strings.NewReplacer("CONFIG", img.ConfigDesc.Digest.String(), "LAYER", imported("1").Blob.Digest.String()).Replace(`{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "CONFIG",
    "size": 848
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "LAYER",
      "size": 10
    }
  ],
  "annotations": {
    "org.opencontainers.image.title": "app"
  }
}`)
	if diff := cmp.Diff(wantManifest, string(blobBytes(t, store, img.Manifest))); diff != "" {
		t.Errorf("manifest: %s", diff)
	}
	if diff := cmp.Diff(&arm64, img.Manifest.Platform); diff != "" {
		t.Errorf("platform: %s", diff)
	}
}

func TestPackFitsHistory(t *testing.T) {
	early, late := time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	entry := func(by string, at *time.Time, empty bool) ocispec.History {
		return ocispec.History{CreatedBy: by, Created: at, EmptyLayer: empty}
	}
	unknown := func(at *time.Time) ocispec.History {
		return ocispec.History{Comment: "a layer without a history", Created: at}
	}
	for _, tc := range []struct {
		name    string
		history []ocispec.History
		layers  int
		want    []ocispec.History
		created *time.Time
	}{
		{"fits", []ocispec.History{entry("a", &early, false), entry("b", &late, true)}, 1, []ocispec.History{entry("a", &early, false), entry("b", &late, true)}, &late},
		{"base without history", []ocispec.History{entry("b", &late, true), entry("c", &late, false)}, 3, []ocispec.History{unknown(&late), unknown(&late), entry("b", &late, true), entry("c", &late, false)}, &late},
		{"none at all", nil, 1, []ocispec.History{unknown(nil)}, nil},
		{"too long", []ocispec.History{entry("a", &early, false), entry("b", &late, false)}, 1, []ocispec.History{entry("a", &early, false), entry("b", &late, true)}, &late},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := output(amd64)
			out.Config.History = tc.history
			for i := range tc.layers {
				out.Layers = append(out.Layers, imported(string(rune('a'+i))))
			}
			given, err := json.Marshal(tc.history)
			if err != nil {
				t.Fatal(err)
			}
			img := pack(t, newPool(t), cachetest.NewMemory(), exporter.PackOptions{}, out)
			if diff := cmp.Diff(tc.want, img.Config.History); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.created, img.Config.Created); diff != "" {
				t.Errorf("created: %s", diff)
			}
			if after, err := json.Marshal(tc.history); err != nil || string(after) != string(given) {
				t.Errorf("the caller's history became %s, %v", after, err)
			}
		})
	}
}

func TestPackAddsConfigMembers(t *testing.T) {
	out := output(amd64, imported("1"))
	out.ConfigMembers = map[string]json.RawMessage{"a.first": json.RawMessage(`{"x":1}`), "z.last": json.RawMessage(`2`)}
	store := cachetest.NewMemory()
	img := pack(t, newPool(t), store, exporter.PackOptions{}, out)
	text := string(blobBytes(t, store, img.ConfigDesc))
	if !strings.HasPrefix(text, `{"a.first":{"x":1},`) || !strings.HasSuffix(text, `,"z.last":2}`) {
		t.Errorf("the configuration is %s", text)
	}
}

// TestPackLayers packs layers as they are packed for an image.
func TestPackLayers(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	layers := []snapshot.Layer{addLayer(t, pool, "own", time.Unix(1, 0), 2, 100), imported("1"), addLayer(t, pool, "own", time.Unix(1, 0), 2, 100)}
	packed, err := exporter.PackLayers(t.Context(), layers, pool, store, exporter.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	img := pack(t, pool, store, exporter.PackOptions{}, output(amd64, layers...))
	if len(packed) != len(img.Layers) {
		t.Fatalf("%d layers, want %d", len(packed), len(img.Layers))
	}
	for i, l := range img.Layers {
		if diff := cmp.Diff(l, snapshot.Layer{DiffID: packed[i].DiffID, Blob: &packed[i].Blob}); diff != "" {
			t.Errorf("layer %d: %s", i, diff)
		}
	}
}
