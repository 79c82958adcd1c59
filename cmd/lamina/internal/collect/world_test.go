package collect

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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
	w.big(id, diffID, len(id))
}

// big is layer with a file of so many bytes.
func (w *world) big(id snapshot.ID, diffID digest.Digest, size int) {
	w.t.Helper()
	d, err := w.pool.Draft()
	w.must(err)
	defer d.Close()
	w.must(d.File("file", snapshot.Entry{Mode: 0o644}, bytes.NewReader(bytes.Repeat([]byte("x"), size))))
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
	return w.stepOn(name, nil, layers...)
}

// stepOn is step for one that stands on the results of others.
func (w *world) stepOn(name string, below []string, layers ...snapshot.Layer) cache.Key {
	w.t.Helper()
	parts := w.blob("application/vnd.lamina.files.v1+zstd", "parts of "+name)
	r := solver.Record{
		Version: solver.NewRecord("", nil).Version, Name: "RUN " + name,
		Result: solver.Result{ID: digest.FromString(name), Layers: layers},
		Inputs: []solver.RecordedInput{{}, {Read: solver.Identity{Parts: []ocispec.Descriptor{parts}}}},
	}
	for _, b := range below {
		r.Inputs = append(r.Inputs, solver.RecordedInput{ID: digest.FromString(b)})
	}
	data, err := json.Marshal(r)
	w.must(err)
	return w.record(name, string(data))
}

// mount makes a cache mount that takes so many bytes.
func (w *world) mount(name string, size int) {
	w.t.Helper()
	w.must(os.MkdirAll(w.store.Path("mounts", name, "data"), 0o700))
	w.must(os.WriteFile(w.store.Path("mounts", name, "id"), []byte(name+" id\n"), 0o600))
	w.must(os.WriteFile(w.store.Path("mounts", name, "data", "file"), make([]byte, size), 0o600))
	now := time.Now()
	w.must(os.Chtimes(w.store.Path("mounts", name), now, now))
}

// old makes it so long ago that a file of the store was used.
func (w *world) old(path string, ago time.Duration) {
	w.t.Helper()
	at := time.Now().Add(-ago)
	w.must(os.Chtimes(w.store.Path(path), at, at))
}

// oldRecord is old for a record.
func (w *world) oldRecord(k cache.Key, ago time.Duration) {
	w.t.Helper()
	w.old(filepath.Join("index", k.Encoded()[:2], k.Encoded()), ago)
}

// tick waits until what is changed next has another time than what was changed before.
func (w *world) tick() {
	w.t.Helper()
	name := filepath.Join(w.t.TempDir(), "clock")
	touched := func() time.Time {
		w.must(os.WriteFile(name, nil, 0o600))
		st, err := os.Stat(name)
		w.must(err)
		return st.ModTime()
	}
	for began := touched(); !touched().After(began); {
	}
}

// du is what du(1) says of the store.
func (w *world) du() int64 {
	w.t.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", w.store.Path()).Output()
	w.must(err)
	size, _, _ := strings.Cut(string(out), "\t")
	n, err := strconv.ParseInt(size, 10, 64)
	w.must(err)
	return n
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
	_, err := w.store.Peek(k)
	return err == nil
}

func (w *world) exists(path string) bool {
	_, err := os.Lstat(w.store.Path(path))
	return err == nil
}

// rng is a source of random numbers, others with another LAMINA_SEED.
func rng(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv("LAMINA_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LAMINA_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
