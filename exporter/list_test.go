package exporter_test

import (
	"context"
	"errors"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/snapshot/layer"
)

// TestPackLists packs a layer that has no list, as those of RUN have none.
func TestPackLists(t *testing.T) {
	pool := newPool(t)
	l := addLayer(t, pool, "l", time.Unix(1700000000, 0), 20, 5000)
	if err := pool.DropList("l"); err != nil {
		t.Fatal(err)
	}
	epoch := time.Unix(1600000000, 0) // changes what is packed, not what is listed
	out := []exporter.Output{output(ocispec.Platform{OS: "linux", Architecture: "amd64"}, l)}
	opt := exporter.PackOptions{Epoch: &epoch}
	full := errors.New("the disk is full")
	store := failing{Memory: cachetest.NewMemory(), after: 1000, err: full}
	if _, err := exporter.Pack(t.Context(), out, pool, store, opt); !errors.Is(err, full) {
		t.Fatalf("error is %v", err)
	}
	dir, err := pool.Open("l")
	if err != nil {
		t.Fatal(err)
	}
	if dir.HasList() {
		t.Error("what was not packed to its end has a list")
	}
	if _, err := exporter.Pack(t.Context(), out, pool, cachetest.NewMemory(), opt); err != nil {
		t.Fatal(err)
	}
	err = dir.Compare(context.Background(), func(diff layer.Difference) error {
		t.Error(diff)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
