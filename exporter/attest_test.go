package exporter_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
)

// TestPackAttestations packs a statement about an image, as an artifact and in the
// form of an image: it is in the index, and no image for any platform.
func TestPackAttestations(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		opt                  exporter.PackOptions
		artifactType, config string
		subject              bool
	}{
		{"artifact", exporter.PackOptions{}, "application/vnd.docker.attestation.manifest.v1+json", "application/vnd.oci.empty.v1+json", true},
		{"image", exporter.PackOptions{ImageAttestations: true}, "", ocispec.MediaTypeImageConfig, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pool, store := newPool(t), cachetest.NewMemory()
			out := output(amd64, addLayer(t, pool, "own", when, 1, 10))
			out.Attestations = []exporter.Attestation{{
				PredicateType: "https://example.com/kind/v1", Predicate: json.RawMessage(`{"a":1}`), Subjects: []string{"pkg:docker/app@1"},
			}}
			root, err := exporter.Pack(t.Context(), []exporter.Output{out}, pool, store, tc.opt)
			if err != nil {
				t.Fatal(err)
			}
			var index ocispec.Index
			decode(t, store, root, &index)
			if len(index.Manifests) != 2 {
				t.Fatalf("index %+v", index)
			}
			image, about := index.Manifests[0], index.Manifests[1]
			want := map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest.String()}
			if diff := cmp.Diff(want, about.Annotations); diff != "" {
				t.Error(diff)
			}
			var m ocispec.Manifest
			decode(t, store, about, &m)
			if m.ArtifactType != tc.artifactType || m.Config.MediaType != tc.config || (m.Subject != nil) != tc.subject {
				t.Errorf("manifest %+v", m)
			}
			if ok, err := store.Has(t.Context(), m.Config); !ok || err != nil {
				t.Errorf("its config is not stored: %v", err)
			}
			var statement struct {
				Subject []struct {
					Name   string
					Digest map[string]string
				}
				Predicate map[string]int
			}
			decode(t, store, m.Layers[0], &statement)
			if s := statement.Subject; len(s) != 1 || s[0].Name != "pkg:docker/app@1" || s[0].Digest["sha256"] != image.Digest.Encoded() || statement.Predicate["a"] != 1 {
				t.Errorf("statement %+v", statement)
			}
			img, err := exporter.ReadImage(t.Context(), store, root, amd64)
			if err != nil || img.Manifest.Digest != image.Digest {
				t.Errorf("the image for amd64 is %s (%v), want %s", img.Manifest.Digest, err, image.Digest)
			}
		})
	}
}

// TestPackIndexOfOne packs one image with an index that says something of itself.
func TestPackIndexOfOne(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	opt := exporter.PackOptions{
		Index: true, IndexAnnotations: map[string]string{"in": "it"}, IndexDescriptorAnnotations: map[string]string{"beside": "it"},
	}
	root, err := exporter.Pack(t.Context(), []exporter.Output{output(amd64)}, pool, store, opt)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	decode(t, store, root, &index)
	if len(index.Manifests) != 1 || index.Annotations["in"] != "it" || root.Annotations["beside"] != "it" {
		t.Errorf("root %+v, index %+v", root, index)
	}
}

func decode(t *testing.T, store exporter.Store, d ocispec.Descriptor, v any) {
	t.Helper()
	if err := json.Unmarshal(blobBytes(t, store, d), v); err != nil {
		t.Fatal(err)
	}
}
