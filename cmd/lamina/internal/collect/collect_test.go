package collect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// world is a store to collect in.
type world struct {
	t     *testing.T
	store *cache.Store
	pool  *layer.Pool
}

func newWorld(t *testing.T) *world {
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	pool, err := layer.OpenPool(store.Path("layers"), store.Temp)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, store, pool}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) blob(mediaType, content string) ocispec.Descriptor {
	w.t.Helper()
	d, err := w.store.Ingest(w.t.Context(), mediaType, strings.NewReader(content))
	w.must(err)
	return d
}

func (w *world) json(mediaType string, v any) ocispec.Descriptor {
	w.t.Helper()
	data, err := json.Marshal(v)
	w.must(err)
	return w.blob(mediaType, string(data))
}

// layer puts an unpacked layer into the pool.
func (w *world) layer(id snapshot.ID, diffID digest.Digest) {
	w.t.Helper()
	d, err := w.pool.Draft()
	w.must(err)
	defer d.Close()
	w.must(d.File("file", snapshot.Entry{Mode: 0o644}, bytes.NewReader([]byte(id))))
	w.must(d.Commit(id))
	if diffID != "" {
		w.must(w.pool.SetInfo(id, layer.Info{DiffID: diffID, Size: 5}))
	}
}

// image puts an image with one layer into the store, packed, and unpacked as id.
func (w *world) image(id snapshot.ID) ocispec.Descriptor {
	w.t.Helper()
	diffID := digest.FromString(string(id))
	w.layer(id, diffID)
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	return w.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    w.json(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{w.blob(ocispec.MediaTypeImageLayerGzip, "packed "+string(id))},
	})
}

func (w *world) record(name, content string) cache.Key {
	w.t.Helper()
	k := digest.FromString(name)
	w.must(w.store.Index().Put(w.t.Context(), k, []byte(content)))
	return k
}

// step records a result of these layers, made of parts that are listed in the store.
func (w *world) step(name string, layers ...snapshot.Layer) cache.Key {
	w.t.Helper()
	parts := w.blob("application/vnd.lamina.files.v1+zstd", "parts of "+name)
	data, err := json.Marshal(solver.Record{
		Version: recordVersion(w.t), Result: solver.Result{ID: digest.FromString(name), Layers: layers},
		Inputs: []solver.RecordedInput{{}, {Read: solver.Identity{Parts: []ocispec.Descriptor{parts}}}},
	})
	w.must(err)
	return w.record(name, string(data))
}

// recordVersion is the one that the solver reads.
func recordVersion(t *testing.T) int {
	for v := range 100 {
		data, err := json.Marshal(solver.Record{Version: v})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := solver.DecodeRecord(data); err == nil {
			return v
		}
	}
	t.Fatal("the solver reads no version of records")
	return 0
}

func (w *world) blobs() int {
	w.t.Helper()
	all, err := os.ReadDir(w.store.Path("blobs", "sha256"))
	w.must(err)
	return len(all)
}

func (w *world) layers() []snapshot.ID {
	w.t.Helper()
	all, err := w.pool.List()
	w.must(err)
	return all
}

func (w *world) hasRecord(k cache.Key) bool {
	_, err := w.store.Index().Get(w.t.Context(), k)
	return err == nil
}

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

	r, err := Prune(ctx, w.store, w.pool, Options{})
	w.must(err)
	want := Report{Images: []digest.Digest{unnamed.Digest}, Blobs: 4, Layers: 2, Records: 1, Bytes: r.Bytes}
	if diff := cmp.Diff(want, r); diff != "" {
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
	if r, err = Prune(ctx, w.store, w.pool, Options{}); err != nil || r.Bytes != 0 {
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

	r, err := Prune(ctx, w.store, w.pool, Options{Cache: true})
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
	_, err := Prune(ctx, w.store, w.pool, Options{})
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

	r, err := Images(ctx, w.store, w.pool, []ocispec.Descriptor{shared})
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
	if _, err := Prune(ctx, w.store, w.pool, Options{Cache: true}); !errors.Is(err, cache.ErrInUse) {
		t.Errorf("Prune: %v, want ErrInUse", err)
	}
	if _, err := Images(ctx, w.store, w.pool, nil); !errors.Is(err, cache.ErrInUse) {
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
	r, err := Prune(ctx, w.store, w.pool, Options{})
	w.must(err)
	if r.Blobs == 0 {
		t.Error("nothing was collected")
	}
	if names, err := w.store.Names(ctx); err != nil || len(names) != 1 {
		t.Errorf("names: %v, %v", names, err)
	}
}
