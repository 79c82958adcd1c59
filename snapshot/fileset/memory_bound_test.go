package fileset

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lamina/snapshot"
)

// wide is a tree of directories with as many small files each, made as they are
// asked for.
type wide struct{ dirs, files int }

func (t wide) Lstat(name string) (snapshot.Entry, error) {
	if name == "." || !strings.Contains(name, "/") {
		return snapshot.Entry{Name: name, Kind: snapshot.Dir, Mode: 0o755, Nlink: 1, ModTime: when}, nil
	}
	return t.file(name), nil
}

func (t wide) file(name string) snapshot.Entry {
	return snapshot.Entry{
		Name: name, Mode: 0o644, Size: int64(len(name)), Ino: 1, Nlink: 1, ModTime: when, ChangeTime: when,
	}
}

func (t wide) ReadDir(name string) (all []snapshot.Entry, err error) {
	if name == "." {
		for i := range t.dirs {
			all = append(all, snapshot.Entry{Name: fmt.Sprintf("dir%06d", i), Kind: snapshot.Dir, Mode: 0o755, Nlink: 1, ModTime: when})
		}
		return all, nil
	}
	for i := range t.files {
		all = append(all, t.file(fmt.Sprintf("file%06d", i)))
	}
	return all, nil
}

func (t wide) Open(name string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(name)), nil
}

func (wide) Xattrs(string) (map[string]string, error) { return nil, nil }

// peak returns a function that samples the memory in use, and what was the most of
// that, in bytes beyond what is in use now.
func peak() (sample func(), most func() int64) {
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, top := inUse(), int64(0)
	return func() { top = max(top, inUse()-before) }, func() int64 { return top }
}

// TestIdentifyTakesLittleMemory identifies 120,000 files for the first time, which
// the index has to learn: about 20 MiB if it kept what it knows of each.
func TestIdentifyTakesLittleMemory(t *testing.T) {
	x := mustIndex(t, filepath.Join(t.TempDir(), "index"), when.Add(time.Hour))
	s := selection(t, wide{dirs: 1200, files: 100}, ".")
	sample, most := peak()
	files := 0
	_, err := s.Digest(t.Context(), x, DigestOptions{Table: func(Sum) error {
		if files++; files%14_000 == 0 {
			sample()
		}
		return nil
	}})
	must(t, err)
	must(t, x.Save())
	sample()
	if x.known.count != 120_000 {
		t.Errorf("%d files are known", x.known.count)
	}
	if n := most(); n > 12<<20 { // 5 to 8, as far as the two that hash are ahead
		t.Errorf("%d MiB are in use", n>>20)
	}
}

// TestIndexTakesLittleMemory looks up every record of an index of 7 MiB.
func TestIndexTakesLittleMemory(t *testing.T) {
	records := manyRecords(100_000)
	file := filepath.Join(t.TempDir(), "index")
	x, err := replaceIndex(file, records, 100)
	must(t, err)
	must(t, x.close())
	sample, most := peak()
	x, err = openIndexFile(file)
	must(t, err)
	defer x.close()
	for k := range records {
		if _, ok := x.find(k); !ok {
			t.Fatalf("%x is not found", k)
		}
	}
	sample()
	runtime.KeepAlive(records)
	if n := most(); n > 1<<19 {
		t.Errorf("%d KiB are in use", n>>10)
	}
}
