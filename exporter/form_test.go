package exporter_test

import (
	"maps"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/snapshot"
)

// TestParseForm packs a layer in many ways and finds from what is remembered of it
// how to do it again.
func TestParseForm(t *testing.T) {
	pool := newPool(t)
	l := addLayer(t, pool, "l", time.Unix(1700000000, 0), 3, 1000)
	level, epoch := 2, time.Unix(1600000000, 0)
	out := []exporter.Output{output(ocispec.Platform{OS: "linux", Architecture: "amd64"}, l)}
	for _, opt := range []exporter.PackOptions{
		{}, {Compression: exporter.Zstd}, {Compression: exporter.Uncompressed}, {Compression: exporter.Gzip, Level: &level},
		{Epoch: &epoch}, {Compression: exporter.Uncompressed, Epoch: &epoch, AllTimes: true},
	} {
		if _, err := exporter.Pack(t.Context(), out, pool, cachetest.NewMemory(), opt); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := pool.Open("l")
	if err != nil {
		t.Fatal(err)
	}
	info, err := dir.Info()
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Packed) != 6 {
		t.Errorf("forms are %v", maps.Keys(info.Packed))
	}
	for form, want := range info.Packed {
		opt, err := exporter.ParseForm(form)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := exporter.PackLayers(t.Context(), []snapshot.Layer{{ID: "l"}}, pool, cachetest.NewMemory(), opt)
		if err != nil || got[0].Blob.Digest != want.Blob.Digest {
			t.Errorf("%s: %v %v, want %v", form, got, err, want)
		}
	}
	for _, form := range []string{"", "gzip", "gzip-x", "gzip-11", "lz4-1", "gzip-05", "gzip-5@", "gzip-5@x", "uncompressed-0"} {
		if opt, err := exporter.ParseForm(form); err == nil {
			t.Errorf("%q is %+v", form, opt)
		}
	}
}
