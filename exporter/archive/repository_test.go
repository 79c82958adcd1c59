package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/exporter/archive"
)

func makeLayout(t *testing.T, dir string) *archive.Layout {
	t.Helper()
	l, err := archive.MakeLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLayoutConformance(t *testing.T) {
	cachetest.RunRepository(t, func() cache.Repository { return makeLayout(t, t.TempDir()) })
}

func TestOpenLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	for range 2 {
		if _, err := archive.OpenLayout(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is no layout: %v", err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := makeLayout(t, dir)
	root := cachetest.Image(t, l, ocispec.Platform{OS: "linux", Architecture: "amd64"}, 1, 1, 100)
	again, err := archive.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	// By its digest a document is found that has no name.
	got, err := again.Resolve(t.Context(), root.Digest.String())
	if err != nil || got.Digest != root.Digest || got.Size != root.Size || got.MediaType != root.MediaType {
		t.Errorf("Resolve by digest: %+v, %v", got, err)
	}
}

// Remove leaves what another name needs.
func TestLayoutRemove(t *testing.T) {
	l := makeLayout(t, t.TempDir())
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	old, kept := cachetest.Image(t, l, p, 1, 2, 100), cachetest.Image(t, l, p, 1, 1, 100)
	if err := l.Tag(t.Context(), "kept", kept); err != nil {
		t.Fatal(err)
	}
	oldParts, err := exporter.Children(t.Context(), l, old)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	err = exporter.Walk(t.Context(), l, kept, func(d ocispec.Descriptor) error {
		if ok, err := l.Has(t.Context(), d); err != nil || !ok {
			t.Errorf("%s of the other image is gone, %v", d.MediaType, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, d := range append(oldParts, old) {
		if ok, err := l.Has(t.Context(), d); err != nil {
			t.Fatal(err)
		} else if ok {
			left++
		}
	}
	if left != 1 { // the layer that both have
		t.Errorf("%d parts of what was removed are left", left)
	}
}

func TestLayoutLock(t *testing.T) {
	dir := t.TempDir()
	first, second := makeLayout(t, dir), makeLayout(t, dir)
	unlock, err := first.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	cancel(stop)
	if _, err := second.Lock(ctx); !errors.Is(err, stop) {
		t.Errorf("locking what is locked: %v", err)
	}
	unlock()
	unlock, err = second.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := first.Put(t.Context(), cachetest.Describe("x", []byte("x")), bytes.NewReader([]byte("x"))); err != nil {
		t.Error(err)
	}
}
