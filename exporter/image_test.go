package exporter_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/exporter"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	arm6  = ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
)

const (
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerListType     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
)

func TestReadImage(t *testing.T) {
	b := cachetest.NewMemory()
	root := cachetest.Image(t, b, amd64, 1, 2, 100)
	img, err := exporter.ReadImage(t.Context(), b, root, arm64) // a manifest is taken as it is
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/bin/sh"}, img.Config.Config.Cmd); diff != "" {
		t.Error(diff)
	}
	if img.Config.Architecture != "amd64" || img.Manifest.Digest != root.Digest {
		t.Errorf("read %s for %s", img.Manifest.Digest, img.Config.Architecture)
	}
	if len(img.Layers) != 2 {
		t.Fatalf("%d layers, want 2", len(img.Layers))
	}
	for i, l := range img.Layers {
		if l.DiffID != img.Config.RootFS.DiffIDs[i] || l.Blob == nil || l.Blob.MediaType != ocispec.MediaTypeImageLayerGzip {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	if img.Layers[0].Blob.Digest == img.Layers[1].Blob.Digest {
		t.Error("both layers have the same blob")
	}
}

func TestReadImageChoosesFromIndex(t *testing.T) {
	b := cachetest.NewMemory()
	forAmd64 := cachetest.Image(t, b, amd64, 1, 1, 100)
	forArm6 := cachetest.Image(t, b, arm6, 2, 1, 100)
	forArm64 := cachetest.Image(t, b, arm64, 3, 1, 100)
	attestation := cachetest.Image(t, b, ocispec.Platform{OS: "unknown", Architecture: "unknown"}, 4, 1, 10)
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	silent := forArm64 // says its platform in the config only
	silent.Platform = nil
	nested := cachetest.ImageIndex(t, b, silent)
	index := cachetest.ImageIndex(t, b, attestation, forArm6, forAmd64, nested)

	for _, tc := range []struct {
		platform ocispec.Platform
		want     ocispec.Descriptor
	}{
		{amd64, forAmd64},
		{arm64, forArm64},
		{ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, forArm6},
	} {
		img, err := exporter.ReadImage(t.Context(), b, index, tc.platform)
		if err != nil {
			t.Errorf("%v: %v", tc.platform, err)
		} else if img.Manifest.Digest != tc.want.Digest || img.Manifest.Platform == nil {
			t.Errorf("%v: chose %v, want %s", tc.platform, img.Manifest, tc.want.Digest)
		}
	}

	_, err := exporter.ReadImage(t.Context(), b, index, ocispec.Platform{OS: "linux", Architecture: "s390x"})
	want := "image " + index.Digest.String() + " is not there for linux/s390x, only for linux/arm/v6, linux/amd64, linux/arm64/v8"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
}

func TestReadImageOfDocker(t *testing.T) {
	b := cachetest.NewMemory()
	config := cachetest.PutJSON(t, b, dockerConfigType, ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers"}})
	manifest := cachetest.PutJSON(t, b, dockerManifestType, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerManifestType, Config: config,
	})
	manifest.Platform = &amd64
	list := cachetest.PutJSON(t, b, dockerListType, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerListType, Manifests: []ocispec.Descriptor{manifest},
	})
	img, err := exporter.ReadImage(t.Context(), b, list, amd64)
	if err != nil || img.Manifest.Digest != manifest.Digest {
		t.Errorf("read %v, %v", img.Manifest, err)
	}
}

func TestReadImageRefuses(t *testing.T) {
	b := cachetest.NewMemory()
	config := cachetest.PutJSON(t, b, ocispec.MediaTypeImageConfig, ocispec.Image{Platform: amd64})
	chart := cachetest.Put(t, b, "application/vnd.cncf.helm.config.v1+json", []byte("{}"))
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("layer"), Size: 5}
	put := func(mediaType string, v any) ocispec.Descriptor { return cachetest.PutJSON(t, b, mediaType, v) }

	for _, tc := range []struct {
		name string
		root ocispec.Descriptor
		want string // "DIGEST" stands for the root's
	}{
		{
			"schema 1 by media type",
			put("application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]any{"schemaVersion": 1}),
			"read manifest DIGEST: the image is in Docker's schema 1, which is no longer supported: push it again with a current tool, which converts it",
		}, {
			"schema 1 by content",
			put(ocispec.MediaTypeImageManifest, map[string]any{"schemaVersion": 1, "fsLayers": []string{"x"}}),
			"read manifest DIGEST: the image is in Docker's schema 1, which is no longer supported: push it again with a current tool, which converts it",
		}, {
			"artifact",
			put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: chart}),
			`DIGEST is not an image but an artifact of type "application/vnd.cncf.helm.config.v1+json"`,
		}, {
			"a blob",
			config,
			`DIGEST is not an image: its media type is "application/vnd.oci.image.config.v1+json"`,
		}, {
			"index called manifest",
			put(ocispec.MediaTypeImageManifest, ocispec.Index{Manifests: []ocispec.Descriptor{config}}),
			"read manifest DIGEST: it is an index",
		}, {
			"manifest called index",
			put(ocispec.MediaTypeImageIndex, ocispec.Manifest{Config: config}),
			"read index DIGEST: it is an image manifest",
		}, {
			"both at once",
			put(ocispec.MediaTypeImageManifest, map[string]any{"config": config, "layers": []any{}, "manifests": []any{}}),
			"read manifest DIGEST: it is an index",
		}, {
			"no config",
			put(ocispec.MediaTypeImageManifest, map[string]any{"layers": []any{}}),
			"read manifest DIGEST: it has no config",
		}, {
			"layers without diff IDs",
			put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}}),
			"image DIGEST is damaged: its manifest has 1 layers, its config 0",
		}, {
			"no platform at all",
			cachetest.ImageIndex(t, b),
			"image DIGEST is not there for linux/amd64, only for no platform at all",
		}, {
			"too large to be a manifest",
			ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: config.Digest, Size: 1 << 40},
			"read DIGEST: 1099511627776 bytes are too many for application/vnd.oci.image.manifest.v1+json",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := exporter.ReadImage(t.Context(), b, tc.root, amd64)
			want := strings.ReplaceAll(tc.want, "DIGEST", tc.root.Digest.String())
			if err == nil || err.Error() != want {
				t.Errorf("error %v\nwant %s", err, want)
			}
		})
	}

	_, err := exporter.ReadImage(t.Context(), b, cachetest.Describe(ocispec.MediaTypeImageManifest, []byte("gone")), amd64)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent manifest: %v, want fs.ErrNotExist", err)
	}
}

func TestReadImageOfEndlessIndexes(t *testing.T) {
	b := cachetest.NewMemory()
	root := cachetest.Image(t, b, amd64, 1, 1, 10)
	for range 20 {
		root = cachetest.ImageIndex(t, b, root)
	}
	if _, err := exporter.ReadImage(t.Context(), b, root, amd64); err == nil || !strings.Contains(err.Error(), "indexes inside each other") {
		t.Errorf("error %v", err)
	}
}

func TestWalk(t *testing.T) {
	b := cachetest.NewMemory()
	first := cachetest.Image(t, b, amd64, 1, 2, 10)
	second := cachetest.Image(t, b, arm64, 1, 2, 10) // the same layers
	index := cachetest.ImageIndex(t, b, first, second)

	var visited []digest.Digest
	seen := map[digest.Digest]bool{}
	err := exporter.Walk(t.Context(), b, index, func(d ocispec.Descriptor) error {
		visited = append(visited, d.Digest)
		if seen[d.Digest] {
			t.Errorf("%s twice", d.Digest)
		}
		seen[d.Digest] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(visited) != 7 || len(visited) != len(b.Digests()) { // index, 2 manifests, 2 configs, 2 layers
		t.Errorf("visited %d of %d blobs", len(visited), len(b.Digests()))
	}
	if visited[0] != index.Digest || visited[1] != first.Digest {
		t.Errorf("order %v: a document must come before its children", visited)
	}

	stop := errors.New("stop")
	if err := exporter.Walk(t.Context(), b, index, func(ocispec.Descriptor) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Walk = %v, want fn's error", err)
	}
}

// FuzzReadImage feeds manifests of anyone's making.
func FuzzReadImage(f *testing.F) {
	for _, v := range []any{
		ocispec.Manifest{Config: ocispec.DescriptorEmptyJSON},
		ocispec.Index{Manifests: []ocispec.Descriptor{{Digest: "sha256:zz", MediaType: ocispec.MediaTypeImageManifest}}},
		map[string]any{"config": nil, "layers": []any{nil}},
		map[string]any{"manifests": []any{map[string]any{"platform": map[string]any{"variant": "v99999999999999999999"}}}},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := cachetest.NewMemory()
		for _, mediaType := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex} {
			d := cachetest.Put(t, b, mediaType, data)
			img, err := exporter.ReadImage(t.Context(), b, d, amd64)
			if err == nil {
				t.Errorf("read an image without a config: %+v", img)
			}
			if _, err := exporter.Children(t.Context(), b, d); err != nil && err.Error() == "" {
				t.Error("an error without a text")
			}
		}
	})
}

// mending has a damaged blob until that was read.
type mending struct {
	*cachetest.Memory
	damaged ocispec.Descriptor
	reads   int
}

func (m *mending) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest == m.damaged.Digest {
		if m.reads++; m.reads == 1 {
			return cache.Verify(io.NopCloser(strings.NewReader("damaged")), d), nil
		}
	}
	return m.Memory.Open(ctx, d)
}

func TestReadImageMends(t *testing.T) {
	pool, blobs := newPool(t), cachetest.NewMemory()
	l := addLayer(t, pool, "l", time.Unix(1700000000, 0), 1, 10)
	root, err := exporter.Pack(t.Context(), []exporter.Output{output(ocispec.Platform{OS: "linux", Architecture: "amd64"}, l)}, pool, blobs, exporter.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exporter.ReadImage(t.Context(), &mending{Memory: blobs, damaged: root}, root, ocispec.Platform{}); err != nil {
		t.Error(err)
	}
}
