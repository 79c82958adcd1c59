package fileset

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// indexed is a tree of one file "f" that counts how often it is read.
type indexed struct {
	snapshot.Tree
	entry snapshot.Entry
	data  string
	reads int
}

func newIndexed(data string, ctime time.Time) *indexed {
	f := file(0o644, data)
	f.Ino, f.ChangeTime, f.ModTime, f.Size = 1, ctime, ctime, int64(len(data))
	return &indexed{Tree: fakeTree{"f": f}, entry: f.Entry, data: data}
}

func (t *indexed) Open(name string) (io.ReadCloser, error) {
	t.reads++
	return t.Tree.Open(name)
}

func (t *indexed) sum(tt testing.TB, x *Index) digest.Digest {
	tt.Helper()
	d, err := x.Sum(tt.Context(), t, "f", t.entry)
	must(tt, err)
	if want := digest.FromString(t.data); d != want {
		tt.Errorf("the sum is %s, want %s", d, want)
	}
	return d
}

func mustIndex(t testing.TB, file string, now time.Time) *Index {
	t.Helper()
	x, err := openIndex(file, func() time.Time { return now })
	must(t, err)
	return x
}

func TestIndexRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	tree := newIndexed("hello", when)
	x := mustIndex(t, path, when.Add(time.Hour))
	tree.sum(t, x)
	tree.sum(t, x)
	if tree.reads != 1 {
		t.Errorf("the file was read %d times", tree.reads)
	}
	must(t, x.Save())
	y := mustIndex(t, path, when.Add(2*time.Hour))
	tree.sum(t, y)
	if tree.reads != 1 {
		t.Error("a new process reads the file again")
	}
	before, err := os.Stat(path)
	must(t, err)
	must(t, y.Save())
	after, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the index was written although nothing was learnt")
	}
}

func TestIndexNotices(t *testing.T) {
	now := when.Add(time.Hour)
	for name, change := range map[string]func(*snapshot.Entry){
		"size":  func(e *snapshot.Entry) { e.Size++ },
		"mtime": func(e *snapshot.Entry) { e.ModTime = e.ModTime.Add(1) },
		"ctime": func(e *snapshot.Entry) { e.ChangeTime = e.ChangeTime.Add(1) },
		"inode": func(e *snapshot.Entry) { e.Ino++ },
	} {
		t.Run(name, func(t *testing.T) {
			x := mustIndex(t, filepath.Join(t.TempDir(), "index"), now)
			tree := newIndexed("hello", when)
			tree.sum(t, x)
			change(&tree.entry)
			tree.sum(t, x)
			if tree.reads != 2 {
				t.Errorf("the file was read %d times", tree.reads)
			}
		})
	}
	t.Run("tree", func(t *testing.T) {
		x := mustIndex(t, filepath.Join(t.TempDir(), "index"), now)
		one, two := newIndexed("hello", when), newIndexed("world", when)
		must(t, ignoreErr(x.Sum(t.Context(), rooted{one, "/a"}, "f", one.entry)))
		must(t, ignoreErr(x.Sum(t.Context(), rooted{two, "/b"}, "f", two.entry)))
		if two.reads != 1 {
			t.Error("a file of one directory is taken for that of another")
		}
	})
}

type rooted struct {
	snapshot.Tree
	path string
}

func (r rooted) Path() string { return r.path }

func ignoreErr[T any](_ T, err error) error { return err }

func TestIndexDistrustsFresh(t *testing.T) {
	second := when.Truncate(time.Second)
	for _, tc := range []struct {
		name  string
		ctime time.Time
		now   time.Time
		reads int
	}{
		{"same moment", when, when, 2},
		{"within a tick", when, when.Add(10 * time.Millisecond), 2},
		{"after some ticks", when, when.Add(time.Second), 1},
		{"in the future", when, when.Add(-time.Hour), 2},
		{"whole seconds, the next second", second, second.Add(time.Second), 2},
		{"whole seconds, later", second, second.Add(3 * time.Second), 1},
		{"no ctime", time.Time{}, when, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := mustIndex(t, filepath.Join(t.TempDir(), "index"), tc.now)
			tree := newIndexed("hello", tc.ctime)
			tree.sum(t, x)
			tree.sum(t, x)
			if tree.reads != tc.reads {
				t.Errorf("the file was read %d times, want %d", tree.reads, tc.reads)
			}
		})
	}
}

func TestIndexForgetsUnused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	day := 24 * time.Hour
	now := when.Add(time.Hour)
	old, used := newIndexed("old", when), newIndexed("used", when)
	used.entry.Ino = 2
	x := mustIndex(t, path, now)
	old.sum(t, x)
	used.sum(t, x)
	must(t, x.Save())

	x = mustIndex(t, path, now.Add(30*day))
	used.sum(t, x)
	must(t, x.Save())

	x = mustIndex(t, path, now.Add(80*day))
	fresh := newIndexed("fresh", when)
	fresh.entry.Ino = 3
	fresh.sum(t, x)
	must(t, x.Save())

	x = mustIndex(t, path, now.Add(80*day))
	old.sum(t, x)
	used.sum(t, x)
	if old.reads != 2 || used.reads != 1 {
		t.Errorf("the unused file was read %d times and the used one %d times, want 2 and 1", old.reads, used.reads)
	}
}

func TestIndexDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	x := mustIndex(t, path, when.Add(time.Hour))
	newIndexed("hello", when).sum(t, x)
	must(t, x.Save())
	good, err := os.ReadFile(path)
	must(t, err)
	for name, data := range map[string][]byte{
		"empty":       {},
		"truncated":   good[:len(good)-1],
		"no record":   good[:len(indexMagic)],
		"zeros":       make([]byte, len(good)),
		"longer":      append(append([]byte{}, good...), 0),
		"flipped bit": flip(good, len(good)/2),
		"other magic": flip(good, 0),
		"text":        []byte("this is no index but it is long enough to look at"),
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(path, data, 0o644))
			tree := newIndexed("hello", when)
			x := mustIndex(t, path, when.Add(time.Hour))
			tree.sum(t, x)
			if tree.reads != 1 {
				t.Error("a damaged index was believed")
			}
			must(t, x.Save())
			tree.sum(t, mustIndex(t, path, when.Add(time.Hour)))
			if tree.reads != 1 {
				t.Error("the index was not replaced")
			}
		})
	}
}

func flip(b []byte, i int) []byte {
	out := append([]byte{}, b...)
	out[i] ^= 1
	return out
}

// TestIndexSharedByProcesses saves indexes that were opened at the same time, each
// with files of its own.
func TestIndexSharedByProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	now := when.Add(time.Hour)
	const writers, files = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		x := mustIndex(t, path, now)
		wg.Go(func() {
			for i := range files {
				tree := newIndexed(fmt.Sprint(w, i), when)
				tree.entry.Ino = uint64(w*files + i)
				tree.sum(t, x)
				if err := x.Save(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// Whoever saves last has everything that the others could write before.
	x := mustIndex(t, path, now)
	if n := len(x.known) / recordSize; n == 0 || n > writers*files {
		t.Errorf("the index has %d records", n)
	}
	for i := recordSize; i < len(x.known); i += recordSize {
		if string(x.known[i-recordSize:i-recordSize+keySize]) >= string(x.known[i:i+keySize]) {
			t.Fatal("the index is not sorted")
		}
	}
}

func TestIndexSaveFails(t *testing.T) {
	x := mustIndex(t, filepath.Join(t.TempDir(), "nowhere", "index"), when.Add(time.Hour))
	newIndexed("hello", when).sum(t, x)
	if err := x.Save(); err == nil {
		t.Error("an index was saved in a directory that does not exist")
	}
}

func TestIndexOfContext(t *testing.T) {
	root := hostDir(t, map[string]string{"a": "one", "b/c": "two"})
	path := filepath.Join(t.TempDir(), "index")
	x, err := openIndex(path, func() time.Time { return time.Now().Add(time.Hour) })
	must(t, err)
	tree, err := Ignore(host(t, root), []string{"nothing"})
	must(t, err)
	s, err := Select(t.Context(), tree, []string{"."})
	must(t, err)
	id, err := s.Digest(t.Context(), x, DigestOptions{ResetOwner: true})
	must(t, err)
	must(t, x.Save())
	if n := len(x.known) / recordSize; n != 2 {
		t.Errorf("the index has %d records, want 2", n)
	}
	plain, _ := identify(t, host(t, root), DigestOptions{ResetOwner: true}, ".")
	if id.Digest != plain {
		t.Error("the index changes the identity")
	}
	again, err := s.Digest(t.Context(), readless{x, t}, DigestOptions{ResetOwner: true})
	must(t, err)
	if again.Digest != id.Digest {
		t.Error("a remembered file has another identity")
	}
}

// readless is an index that must know everything.
type readless struct {
	*Index
	t *testing.T
}

func (x readless) Sum(ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, error) {
	x.t.Errorf("%s is read again", name)
	return x.Index.Sum(ctx, t, name, e)
}

func FuzzIndex(f *testing.F) {
	dir := f.TempDir()
	x := mustIndex(f, filepath.Join(dir, "seed"), when.Add(time.Hour))
	newIndexed("hello", when).sum(f, x)
	must(f, x.Save())
	seed, err := os.ReadFile(filepath.Join(dir, "seed"))
	must(f, err)
	f.Add(seed)
	f.Add([]byte(indexMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		records := decodeIndex(data)
		if len(records)%recordSize != 0 || len(records) > len(data) {
			t.Fatalf("%d bytes of records from %d", len(records), len(data))
		}
		var key [keySize]byte
		if r := find(records, key[:]); r != nil && len(r) != recordSize {
			t.Fatalf("a record of %d bytes", len(r))
		}
		merged := current(merge(records, sorted(map[[keySize]byte]record{{1}: {1}})), 0)
		if len(merged)%recordSize != 0 {
			t.Fatalf("%d bytes of merged records", len(merged))
		}
	})
}

func TestFind(t *testing.T) {
	const n = 1000
	fresh := map[[keySize]byte]record{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range n {
		var r record
		for i := range keySize {
			r[i] = byte(rnd.Uint32())
		}
		fresh[[keySize]byte(r[:])] = r
	}
	records := sorted(fresh)
	if len(records) != n*recordSize {
		t.Fatalf("%d bytes", len(records))
	}
	for key, want := range fresh {
		if got := find(records, key[:]); got == nil || record(got) != want {
			t.Fatalf("%x is not found", key)
		}
	}
	if find(records, make([]byte, keySize)) != nil {
		t.Error("found what is not there")
	}
	if find(nil, make([]byte, keySize)) != nil {
		t.Error("found something in nothing")
	}
}

func TestMerge(t *testing.T) {
	rec := func(key, value byte) record {
		var r record
		r[0], r[sumOffset] = key, value
		return r
	}
	list := func(rs ...record) []byte {
		m := map[[keySize]byte]record{}
		for _, r := range rs {
			m[[keySize]byte(r[:])] = r
		}
		return sorted(m)
	}
	for _, tc := range []struct{ a, b, want []byte }{
		{nil, nil, list()},
		{list(rec(1, 1)), nil, list(rec(1, 1))},
		{nil, list(rec(1, 1)), list(rec(1, 1))},
		{list(rec(1, 1), rec(3, 3)), list(rec(2, 2)), list(rec(1, 1), rec(2, 2), rec(3, 3))},
		{list(rec(1, 1), rec(2, 2)), list(rec(2, 9), rec(4, 4)), list(rec(1, 1), rec(2, 9), rec(4, 4))},
		{list(rec(5, 5)), list(rec(1, 1), rec(5, 6)), list(rec(1, 1), rec(5, 6))},
	} {
		if got := merge(tc.a, tc.b); !bytes.Equal(got, tc.want) {
			t.Errorf("merge of %d and %d bytes makes\n%x, want\n%x", len(tc.a), len(tc.b), got, tc.want)
		}
	}
}

// TestIndexOfMany learns more than is kept unsorted.
func TestIndexOfMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	x := mustIndex(t, path, when.Add(time.Hour))
	const n = maxFresh + 100
	tree := newIndexed("hello", when)
	for i := range n {
		tree.entry.Ino = uint64(i + 1)
		tree.sum(t, x)
	}
	must(t, x.Save())
	x = mustIndex(t, path, when.Add(time.Hour))
	for i := range n {
		tree.entry.Ino = uint64(i + 1)
		tree.sum(t, x)
	}
	if tree.reads != n {
		t.Errorf("%d files were read %d times", n, tree.reads)
	}
}
