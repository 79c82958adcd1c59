package cachetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Describe returns the descriptor of data.
func Describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// Put stores data in b and returns its descriptor.
func Put(t testing.TB, b cache.Blobs, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	d := Describe(mediaType, data)
	if err := b.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatalf("put %s: %v", mediaType, err)
	}
	return d
}

// PutJSON stores v as JSON in b and returns its descriptor.
func PutJSON(t testing.TB, b cache.Blobs, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return Put(t, b, mediaType, data)
}

// Bytes returns n bytes that do not compress and depend on seed alone.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

// Image stores an image for p in b and returns its manifest, platform included.
// Each of its layers holds one file "file-<i>" of size random bytes. Images with
// the same seed share their layers.
func Image(t testing.TB, b cache.Blobs, p ocispec.Platform, seed uint64, layers, size int) ocispec.Descriptor {
	t.Helper()
	created := time.Unix(0, 0).UTC()
	config := ocispec.Image{
		Created:  &created,
		Platform: p,
		Config:   ocispec.ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Layers:    []ocispec.Descriptor{},
	}
	for i := range layers {
		archive := Tar(t, fmt.Sprintf("file-%d", i), Bytes(seed+uint64(i), size))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(archive))
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: fmt.Sprintf("COPY file-%d /", i)})
		manifest.Layers = append(manifest.Layers, Put(t, b, ocispec.MediaTypeImageLayerGzip, compress(t, archive)))
	}
	manifest.Config = PutJSON(t, b, ocispec.MediaTypeImageConfig, config)
	root := PutJSON(t, b, ocispec.MediaTypeImageManifest, manifest)
	root.Platform = &p
	return root
}

// ImageIndex stores an index of manifests in b and returns its descriptor.
func ImageIndex(t testing.TB, b cache.Blobs, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	return PutJSON(t, b, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests,
	})
}

// Tar returns an archive of one file.
func Tar(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
