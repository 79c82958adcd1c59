package fileset

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// indexed is a tree of one file that counts how often it is read.
type indexed struct {
	snapshot.Tree
	name  string
	entry snapshot.Entry
	data  string
	reads int
}

func newIndexed(data string, ctime time.Time) *indexed {
	f := file(0o644, data)
	f.Ino, f.ChangeTime, f.ModTime, f.Size = 1, ctime, ctime, int64(len(data))
	return &indexed{Tree: fakeTree{"f": f}, name: "f", entry: f.Entry, data: data}
}

// rename gives the file another name.
func (t *indexed) rename(name string) {
	t.Tree = fakeTree{name: t.Tree.(fakeTree)[t.name]}
	t.name = name
}

func (t *indexed) Open(name string) (io.ReadCloser, error) {
	t.reads++
	return t.Tree.Open(name)
}

func (t *indexed) sum(tt testing.TB, x *Index) digest.Digest {
	tt.Helper()
	d, err := x.Sum(tt.Context(), t, t.name, t.entry)
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
	t.Cleanup(func() { must(t, x.Close()) })
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
	used.rename("used")
	x := mustIndex(t, path, now)
	old.sum(t, x)
	used.sum(t, x)
	must(t, x.Save())

	x = mustIndex(t, path, now.Add(30*day))
	used.sum(t, x)
	must(t, x.Save())

	x = mustIndex(t, path, now.Add(80*day))
	fresh := newIndexed("fresh", when)
	fresh.rename("fresh")
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
		"no block":    good[blockSize:],
		"half":        good[:blockSize/2],
		"zeros":       make([]byte, len(good)),
		"longer":      append(append([]byte{}, good...), 0),
		"flipped bit": flip(good, 40),
		"fence":       flip(good, blockSize),
		"other magic": flip(good, len(good)-5),
		"count":       flip(good, len(good)-trailerSize+7),
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
				tree.rename(fmt.Sprint(w, "/", i))
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
	if n := x.known.count; n == 0 || n > writers*files {
		t.Errorf("the index has %d records", n)
	}
	if !slices.IsSortedFunc(slices.Collect(x.known.all()), byKey) {
		t.Fatal("the index is not sorted")
	}
}

func byKey(a, b record) int { return bytes.Compare(a[:fenceSize], b[:fenceSize]) }

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
	tree, err := Ignore(host(t, root), rules(t, "nothing"))
	must(t, err)
	s, err := Select(t.Context(), tree, Query{Paths: []string{"."}})
	must(t, err)
	id, err := s.Digest(t.Context(), x, DigestOptions{ResetOwner: true})
	must(t, err)
	must(t, x.Save())
	if n := x.known.count; n != 2 {
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
		file := filepath.Join(t.TempDir(), "index")
		must(t, os.WriteFile(file, data, 0o644))
		x, err := openIndexFile(file)
		must(t, err)
		defer x.close()
		if n := len(slices.Collect(x.all())); x != nil && n > x.count {
			t.Fatalf("%d records of %d", n, x.count)
		}
		if r, ok := x.find(key{}); ok && r.key() != (key{}) {
			t.Fatalf("found %x", r)
		}
		next, err := replaceIndex(file, map[key]record{{name: 1}: {15: 1}}, 0)
		must(t, err)
		defer next.close()
		if _, ok := next.find(key{name: 1}); !ok {
			t.Fatal("a record is lost")
		}
	})
}

// manyRecords returns n records of two hundred directories.
func manyRecords(n int) map[key]record {
	records := map[key]record{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range n {
		r := record{0: byte(rnd.Uint32N(200)), 7: 1}
		for i := 8; i < recordSize; i++ {
			r[i] = byte(rnd.Uint32())
		}
		r.setUsed(100)
		records[r.key()] = r
	}
	return records
}

func TestIndexFile(t *testing.T) {
	for _, n := range []int{0, 1, perBlock - 1, perBlock, perBlock + 1, 1000, 10_000} {
		records := manyRecords(n)
		file := filepath.Join(t.TempDir(), "index")
		x, err := replaceIndex(file, records, 100)
		must(t, err)
		defer x.close()
		all := slices.Collect(x.all())
		if len(all) != n || x.count != n || !slices.IsSortedFunc(all, byKey) {
			t.Errorf("%d records of %d, sorted: %v", len(all), n, slices.IsSortedFunc(all, byKey))
		}
		for k, want := range records {
			if got, ok := x.find(k); !ok || got != want {
				t.Fatalf("of %d, %x is found: %v", n, k, ok)
			}
			k.name++
			if r, ok := x.find(k); ok && r != records[k] {
				t.Fatalf("of %d, %x is found, which is not there", n, k)
			}
		}
		for _, k := range []key{{}, {dir: dirID{0xff, 0xff}}} {
			if _, ok := x.find(k); ok {
				t.Errorf("of %d, %x is found", n, k)
			}
		}
	}
}

// TestIndexFileDamagedBlock: what is in other blocks is still good.
func TestIndexFileDamagedBlock(t *testing.T) {
	records := manyRecords(1000)
	file := filepath.Join(t.TempDir(), "index")
	x, err := replaceIndex(file, records, 100)
	must(t, err)
	must(t, x.close())
	data, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, flip(data, 3*blockSize+100), 0o644))
	x, err = openIndexFile(file)
	must(t, err)
	defer x.close()
	found := 0
	for k, want := range records {
		got, ok := x.find(k)
		if ok && got != want {
			t.Fatal("a damaged record was believed")
		}
		if ok {
			found++
		}
	}
	if found != 1000-perBlock {
		t.Errorf("%d records are found, want all but a block of %d", found, perBlock)
	}
	next, err := replaceIndex(file, records, 100)
	must(t, err)
	defer next.close()
	if next.count != 1000 {
		t.Errorf("%d records after the damage was repaired", next.count)
	}
}

func TestMerge(t *testing.T) {
	rec := func(k, value byte) record { return record{15: k, recordSize - 1: value} }
	for _, tc := range []struct{ old, fresh, want []record }{
		{nil, nil, nil},
		{[]record{rec(1, 1)}, nil, []record{rec(1, 1)}},
		{nil, []record{rec(1, 1)}, []record{rec(1, 1)}},
		{[]record{rec(1, 1), rec(3, 3)}, []record{rec(2, 2)}, []record{rec(1, 1), rec(2, 2), rec(3, 3)}},
		{[]record{rec(1, 1), rec(2, 2)}, []record{rec(2, 9), rec(4, 4)}, []record{rec(1, 1), rec(2, 9), rec(4, 4)}},
		{[]record{rec(5, 5)}, []record{rec(1, 1), rec(5, 6)}, []record{rec(1, 1), rec(5, 6)}},
	} {
		fresh := map[key]record{}
		for _, r := range tc.fresh {
			fresh[r.key()] = r
		}
		if got := slices.Collect(merge(slices.Values(tc.old), fresh)); !slices.Equal(got, tc.want) {
			t.Errorf("merge of %d and %d records makes\n%x, want\n%x", len(tc.old), len(tc.fresh), got, tc.want)
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
		tree.rename(fmt.Sprintf("dir%d/file%d", i/100, i))
		tree.sum(t, x)
	}
	if len(x.fresh) >= maxFresh {
		t.Errorf("%d records are kept in memory", len(x.fresh))
	}
	must(t, x.Save())
	x = mustIndex(t, path, when.Add(time.Hour))
	for i := range n {
		tree.rename(fmt.Sprintf("dir%d/file%d", i/100, i))
		tree.sum(t, x)
	}
	if tree.reads != n {
		t.Errorf("%d files were read %d times", n, tree.reads)
	}
	if len(x.fresh) != 0 || x.known.count != n {
		t.Errorf("%d records are fresh and %d are known", len(x.fresh), x.known.count)
	}
}
