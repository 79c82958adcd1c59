package collect

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
)

func TestPruneKeepsWhatIsReferredTo(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.must(w.store.Tag(ctx, "docker.io/library/app:latest", w.image("named")))
	unnamed := w.image("unnamed")
	w.must(w.store.Hold(ctx, unnamed))
	w.layer("step", "")
	w.layer("orphan", "")
	base := w.blob(ocispec.MediaTypeImageLayerGzip, "base")
	step := w.step("step", snapshot.Layer{ID: "step"}, snapshot.Layer{DiffID: digest.FromString("base"), Blob: &base})
	asked := w.image("asked")
	answer, err := json.Marshal(asked)
	w.must(err)
	answered := w.record("answered", string(answer))
	foreign := w.record("foreign", `["something else"]`)
	outdated := w.record("outdated", `{"v":-1}`)
	w.blob("text/plain", "orphan")

	r, err := Prune(ctx, w.store, PruneOptions{})
	w.must(err)
	want := Report{Images: []digest.Digest{unnamed.Digest}, Blobs: 4, Layers: 2, Records: 1}
	if diff := cmp.Diff(want, Report{Images: r.Images, Blobs: r.Blobs, Layers: r.Layers, Records: r.Records}); diff != "" {
		t.Errorf("wrong report (-want +got):\n%s", diff)
	}
	if r.Bytes < 6*512 {
		t.Errorf("%d bytes were freed by removing six things", r.Bytes)
	}
	if got, want := w.layers(), []snapshot.ID{"asked", "named", "step"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	if got := w.blobs(); got != 3+3+2 {
		t.Errorf("%d blobs are left", got)
	}
	if !w.hasRecord(step) || !w.hasRecord(answered) || !w.hasRecord(foreign) || w.hasRecord(outdated) {
		t.Error("the wrong records are left")
	}
	if r, err = Prune(ctx, w.store, PruneOptions{}); err != nil || r.Bytes != 0 {
		t.Errorf("pruning again: %+v, %v", r, err)
	}
}

func TestPruneCache(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.must(w.store.Tag(ctx, "docker.io/library/app:latest", w.image("named")))
	w.layer("step", "")
	step := w.step("step", snapshot.Layer{ID: "step"})
	w.must(os.MkdirAll(w.store.Path("mounts", "abc", "data"), 0o700))
	// What a build leaves in a cache mount may not be writable, nor even readable.
	w.must(os.MkdirAll(w.store.Path("mounts", "abc", "data", "module"), 0o500))

	w.must(os.MkdirAll(w.store.Path("git", "abc.git"), 0o700))

	r, err := Prune(ctx, w.store, PruneOptions{All: true})
	w.must(err)
	if r.Records != 1 || r.Layers != 1 || r.Blobs != 1 {
		t.Errorf("wrong report: %+v", r)
	}
	if w.hasRecord(step) {
		t.Error("the record is left")
	}
	if got, want := w.layers(), []snapshot.ID{"named"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	if _, err := os.Lstat(w.store.Path("mounts", "abc")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cache mount is left: %v", err)
	}
	if _, err := os.Lstat(w.store.Path("git", "abc.git")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the Git repository is left: %v", err)
	}
}

// What ADD downloaded is not downloaded again after a prune.
func TestDownload(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.layer("fetched", "")
	w.record("download", `{"etag":"x","digest":"`+digest.FromString("content").String()+`","result":{"id":"","layers":[{"ID":"fetched"}]}}`)
	_, err := Prune(ctx, w.store, PruneOptions{})
	w.must(err)
	if got, want := w.layers(), []snapshot.ID{"fetched"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
}

// Only what the removed images had goes: other garbage may be what a failed
// build has just downloaded, and will want again.
func TestImages(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	gone, kept := w.image("gone"), w.image("kept")
	shared := w.json(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{gone, kept}})
	w.must(w.store.Tag(ctx, "docker.io/library/kept:latest", kept))
	w.layer("orphan", "")
	w.blob("text/plain", "orphan")

	r, err := Images(ctx, w.store, []ocispec.Descriptor{shared})
	w.must(err)
	if r.Blobs != 4 || r.Layers != 1 {
		t.Errorf("wrong report: %+v", r)
	}
	if got, want := w.layers(), []snapshot.ID{"kept", "orphan"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	if got := w.blobs(); got != 3+1 {
		t.Errorf("%d blobs are left", got)
	}
}

func TestInUse(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.blob("text/plain", "being made")
	other, err := cache.Open(w.store.Path())
	w.must(err)
	defer other.Close()
	w.must(other.Use(ctx))
	if _, err := Prune(ctx, w.store, PruneOptions{All: true}); !errors.Is(err, cache.ErrInUse) {
		t.Errorf("Prune: %v, want ErrInUse", err)
	}
	if _, err := Images(ctx, w.store, nil); !errors.Is(err, cache.ErrInUse) {
		t.Errorf("Images: %v, want ErrInUse", err)
	}
	if w.blobs() != 1 {
		t.Error("a blob is gone")
	}
}

// An image whose parts are missing or damaged does not keep others from being
// collected, and is not removed either.
func TestDamagedImage(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	root := w.image("named")
	w.must(w.store.Tag(ctx, "docker.io/library/app:latest", root))
	w.must(os.Truncate(w.store.Path("blobs", "sha256", root.Digest.Encoded()), root.Size-1))
	w.blob("text/plain", "orphan")
	r, err := Prune(ctx, w.store, PruneOptions{})
	w.must(err)
	if r.Blobs == 0 {
		t.Error("nothing was collected")
	}
	if names, err := w.store.Names(ctx); err != nil || len(names) != 1 {
		t.Errorf("names: %v, %v", names, err)
	}
}
