package collect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// counted opens the account, adds up what the store takes, and saves it; later, when
// what has changed by now is to be remembered.
func (w *world) counted(later bool) int64 {
	w.t.Helper()
	unlock, err := w.store.Exclusive()
	w.must(err)
	defer unlock()
	a := openAccount(w.store)
	if later {
		w.tick()
		a.began = a.began.Add(time.Hour)
	}
	total, err := a.total()
	w.must(err)
	w.must(a.save())
	return total
}

// Whatever was added and removed, by whomever, what the account says is what du(1) says.
func TestAccount(t *testing.T) {
	w, random := newWorld(t), rng(t)
	for i := range 60 {
		name := fmt.Sprint(random.IntN(10))
		switch random.IntN(9) {
		case 0:
			w.big(snapshot.ID("layer"+name), digest.FromString(name), random.IntN(100000))
		case 1:
			w.must(w.pool.Remove(snapshot.ID("layer" + name)))
		case 2:
			w.blob("text/plain", fmt.Sprint(random.IntN(1e9)))
		case 3:
			w.record(fmt.Sprint(random.IntN(1e9)), "content")
		case 4:
			w.mount(name, random.IntN(100000))
		case 5:
			w.must(w.store.AddOrigin(digest.FromString(name), "example.com/repository"))
		case 6:
			w.must(cache.RemoveAll(w.store.Path("builds", name)))
			w.must(os.MkdirAll(w.store.Path("builds", name), 0o700))
			w.must(os.WriteFile(w.store.Path("builds", name, "log"), make([]byte, random.IntN(10000)), 0o600))
		case 7:
			w.must(os.MkdirAll(w.store.Path("mine", "and\tyours\n"+name), 0o700))
			w.must(os.WriteFile(w.store.Path("mine", name), make([]byte, random.IntN(10000)), 0o600))
		case 8:
			w.must(cache.RemoveAll(w.store.Path("mounts", name)))
		}
		// The file of the account changes with the writing.
		before := w.du()
		if got := w.counted(true); got != before {
			t.Fatalf("after %d changes: %d bytes, but du says %d", i, got, before)
		}
	}
}

// What was measured once is not measured again, unless it is a part of what changed.
func TestAccountRemembers(t *testing.T) {
	w := newWorld(t)
	w.layer("one", "")
	w.layer("two", "")
	w.mount("cache", 10)
	w.counted(true)
	grow := func(path string) {
		t.Helper()
		w.must(os.WriteFile(w.store.Path(path), make([]byte, 100000), 0o600))
	}
	before := w.counted(true)
	grow("layers/one/fs/file")
	if got := w.counted(true); got != before {
		t.Errorf("a layer was measured again: %d bytes, not %d", got, before)
	}
	w.layer("three", "")
	w.mount("cache", 50000)
	if got, want := w.counted(true), before+50000; got < want {
		t.Errorf("%d bytes after much was added, want more than %d", got, want)
	}
	w.must(os.WriteFile(w.store.Path(accountFile), []byte("nonsense"), 0o600))
	if got, want := w.counted(true), w.du(); got != want {
		t.Errorf("with a damaged account: %d bytes, du says %d", got, want)
	}
}

// The files that a folded layer shares with others count once.
func TestAccountFolded(t *testing.T) {
	w := newWorld(t)
	w.big("one", "", 100000)
	w.layer(foldPrefix+"one", "")
	w.must(os.Link(w.store.Path("layers/one/fs/file"), w.store.Path("layers", foldPrefix+"one", "fs/linked")))
	want := w.du()
	if got := w.counted(true); got != want {
		t.Errorf("%d bytes, du says %d", got, want)
	}
	rows, err := Usage(t.Context(), w.store, nil, true)
	w.must(err)
	if got, want := sum(rows), w.du(); got != want {
		t.Errorf("the rows have %d bytes, du says %d", got, want)
	}
}

func sum(rows []Row) (n int64) {
	for _, r := range rows {
		n += r.Bytes
	}
	return n
}

// BenchmarkAccount is what a build that added nothing pays for a full store.
func BenchmarkAccount(b *testing.B) {
	store, err := cache.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if _, err := layer.OpenPool(store.Path("layers"), store.Temp); err != nil {
		b.Fatal(err)
	}
	for i := range 5000 {
		dir := store.Path("layers", fmt.Sprintf("%026d", i), "fs")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600)); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 50000 {
		k := digest.FromString(fmt.Sprint(i))
		dir := store.Path("index", k.Encoded()[:2])
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, k.Encoded()), []byte("x"), 0o600)); err != nil {
			b.Fatal(err)
		}
	}
	limits := Limits{Size: 1 << 40}
	a := openAccount(store)
	a.began = a.began.Add(time.Hour)
	if _, err := a.total(); err != nil {
		b.Fatal(err)
	}
	if err := a.save(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := After(b.Context(), store, limits); err != nil {
			b.Fatal(err)
		}
	}
}
