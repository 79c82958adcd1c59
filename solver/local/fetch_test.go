package local_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/solver"
	"lamina/solver/local"
)

// fileServer serves one file and counts how often it was sent and asked for.
type fileServer struct {
	content     string
	etag        string
	asked, sent atomic.Int32
}

func (f *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	w.Header().Set("ETag", f.etag)
	w.Header().Set("Last-Modified", "Sat, 02 May 2026 10:00:00 GMT")
	switch {
	case r.URL.Path != "/file":
		http.NotFound(w, r)
	case r.Header.Get("If-None-Match") == f.etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		f.sent.Add(1)
		w.Write([]byte(f.content))
	}
}

func download(url string, checksum digest.Digest) *solver.Graph {
	var g solver.Graph
	g.Add(solver.Node{Op: solver.HTTP{URL: url, Name: "file", Checksum: checksum}})
	return &g
}

func TestHTTP(t *testing.T) {
	b := newBench(t)
	f := &fileServer{content: "one", etag: `"1"`}
	srv := httptest.NewServer(f)
	defer srv.Close()
	first := b.mustSolve(download(srv.URL+"/file", ""))
	if got := b.read(first, "file"); got != "one" {
		t.Errorf("fetched %q", got)
	}
	ids, err := b.worker.Unpack(t.Context(), first.Layers, nil)
	if err != nil {
		t.Fatal(err)
	}
	stack, err := b.pool.Stack(ids)
	if err != nil {
		t.Fatal(err)
	}
	e, err := stack.Lstat("file")
	if err != nil || e.Mode != 0o600 || !e.ModTime.Equal(time.Date(2026, 5, 2, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("entry is %+v, %v", e, err)
	}
	if diff := cmp.Diff(first, b.mustSolve(download(srv.URL+"/file", ""))); diff != "" || f.sent.Load() != 1 || f.asked.Load() != 2 {
		t.Errorf("an unchanged file was sent %d times in %d requests: %s", f.sent.Load(), f.asked.Load(), diff)
	}
	f.content, f.etag = "two", `"2"`
	if r := b.mustSolve(download(srv.URL+"/file", "")); r.ID == first.ID || b.read(r, "file") != "two" {
		t.Error("a changed file was not fetched")
	}
	sum := digest.FromString("two")
	b.mustSolve(download(srv.URL+"/file", sum))
	before := f.asked.Load()
	if b.mustSolve(download(srv.URL+"/file", sum)); f.asked.Load() != before {
		t.Error("a file whose checksum is known was asked for")
	}
	for _, tc := range []struct{ path, want string }{
		{"/gone", "the server answered 404 Not Found"},
		{"/file", "but the checksum says " + digest.FromString("three").String()},
	} {
		if _, err := b.solve(download(srv.URL+tc.path, digest.FromString("three"))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want %q in it", tc.path, err, tc.want)
		}
	}
}

// imageLayer puts a layer with one file into the store as an image would have it.
func imageLayer(t *testing.T, s *cache.Store, name, content string) snapshot.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := s.Ingest(t.Context(), ocispec.MediaTypeImageLayer, &buf)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Layer{DiffID: d.Digest, Blob: &d}
}

func TestUnpackOnce(t *testing.T) {
	b := newBench(t)
	layers := []snapshot.Layer{imageLayer(t, b.store, "a", "1"), imageLayer(t, b.store, "b", "2"), imageLayer(t, b.store, "a", "3")}
	layers = append(layers, layers[0])
	first, err := b.worker.Unpack(t.Context(), layers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first[0] != first[3] || first[0] == first[2] {
		t.Errorf("unpacked as %v", first)
	}
	// What is unpacked needs its blob no more.
	for _, l := range layers {
		os.Remove(b.store.Path("blobs", "sha256", l.Blob.Digest.Encoded()))
	}
	second, err := b.worker.Unpack(t.Context(), layers, nil)
	if diff := cmp.Diff(first, second); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestUnpackRefusesWhatIsNotTheLayer(t *testing.T) {
	b := newBench(t)
	good := imageLayer(t, b.store, "a", "content")
	lying := good
	lying.DiffID = digest.FromString("something else")
	damaged := imageLayer(t, b.store, "a", "damaged")
	path := b.store.Path("blobs", "sha256", damaged.Blob.Digest.Encoded())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte("damaged"), []byte("DAMAGED"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := good
	gone.Blob = &ocispec.Descriptor{Digest: digest.FromString("gone"), Size: 4}
	gone.DiffID = digest.FromString("gone too")

	var corrupt *cache.CorruptError
	if _, err := b.worker.Unpack(t.Context(), []snapshot.Layer{damaged}, nil); !errors.As(err, &corrupt) {
		t.Errorf("damaged blob: %v, want a CorruptError", err)
	}
	if _, err := b.worker.Unpack(t.Context(), []snapshot.Layer{lying}, nil); err == nil || !strings.Contains(err.Error(), "but the image says") {
		t.Errorf("wrong diff ID: %v", err)
	}
	if _, err := b.worker.Unpack(t.Context(), []snapshot.Layer{gone}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing blob: %v, want fs.ErrNotExist", err)
	}
	if ids, _ := b.pool.List(); len(ids) != 0 {
		t.Errorf("layers were published: %v", ids)
	}
}

// A result whose layers are neither here nor known to be elsewhere is no result.
func TestHas(t *testing.T) {
	b := newBench(t)
	here := imageLayer(t, b.store, "a", "1")
	gone := snapshot.Layer{DiffID: digest.FromString("gone"), Blob: &ocispec.Descriptor{Digest: digest.FromString("blob"), Size: 4}}
	has := func(l ...snapshot.Layer) bool { return b.worker.Has(t.Context(), solver.Result{Layers: l}) }
	if !has() || !has(here) || has(here, gone) || has(snapshot.Layer{ID: "never-made"}) {
		t.Error("what is here is not there, or the other way about")
	}
}

// A layer that is not what was said of it is named, and no result that needs it is
// had any more, until it is there.
func TestDistrust(t *testing.T) {
	b := newBench(t)
	good := imageLayer(t, b.store, "f", "content")
	lying := good
	lying.DiffID = digest.FromString("something else")
	result := solver.Result{Layers: []snapshot.Layer{lying}}
	if !b.worker.Has(t.Context(), result) {
		t.Fatal("its blob is here")
	}
	_, err := b.worker.Unpack(t.Context(), result.Layers, nil)
	var lost *local.LayerError
	if !errors.As(err, &lost) || lost.Layer.DiffID != lying.DiffID {
		t.Fatalf("error is %v", err)
	}
	if first, again := b.worker.Distrust(lost.Layer), b.worker.Distrust(lost.Layer); !first || again {
		t.Errorf("distrusted %v, then %v", first, again)
	}
	if b.worker.Has(t.Context(), result) {
		t.Error("the result is still had")
	}
	if !b.worker.Has(t.Context(), solver.Result{Layers: []snapshot.Layer{good}}) {
		t.Error("the same blob, rightly described, is distrusted too")
	}
}
