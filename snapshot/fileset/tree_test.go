package fileset

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lamina/snapshot"
)

// fakeTree is a tree of anything, whoever runs the test: its entries by name.
// Directories that names imply must be given too, except for the root.
type fakeTree map[string]fakeFile

type fakeFile struct {
	snapshot.Entry
	data   string
	xattrs map[string]string
}

// when is the time of everything in a fakeTree that has no other.
var when = time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)

func file(mode uint32, data string) fakeFile {
	return fakeFile{Entry: snapshot.Entry{Kind: snapshot.File, Mode: mode, Nlink: 1}, data: data}
}

func dir(mode uint32) fakeFile {
	return fakeFile{Entry: snapshot.Entry{Kind: snapshot.Dir, Mode: mode, Nlink: 1}}
}

func link(to string) fakeFile {
	return fakeFile{Entry: snapshot.Entry{Kind: snapshot.Symlink, Mode: 0o777, Link: to, Nlink: 1}}
}

func (f fakeFile) own(uid, gid int) fakeFile { f.UID, f.GID = uid, gid; return f }

func (f fakeFile) at(t time.Time) fakeFile { f.ModTime = t; return f }

func (f fakeFile) kind(k snapshot.Kind, major, minor uint32) fakeFile {
	f.Kind, f.Major, f.Minor = k, major, minor
	return f
}

func (f fakeFile) ino(n, links uint64) fakeFile { f.Dev, f.Ino, f.Nlink = 1, n, links; return f }

func (f fakeFile) attr(name, value string) fakeFile {
	f.xattrs = map[string]string{name: value}
	return f
}

func (t fakeTree) Lstat(name string) (snapshot.Entry, error) {
	f, ok := t[name]
	if name == "." && !ok {
		f, ok = dir(0o755), true
	}
	if !ok {
		return snapshot.Entry{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	e := f.Entry
	e.Name = path.Base(name)
	if e.Kind == snapshot.File {
		e.Size = int64(len(f.data))
	}
	if e.ModTime.IsZero() {
		e.ModTime = when
	}
	return e, nil
}

func (t fakeTree) ReadDir(name string) ([]snapshot.Entry, error) {
	if e, err := t.Lstat(name); err != nil || e.Kind != snapshot.Dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var out []snapshot.Entry
	for _, n := range slices.Sorted(maps.Keys(t)) {
		if n != "." && path.Dir(n) == name {
			e, err := t.Lstat(n)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func (t fakeTree) Open(name string) (io.ReadCloser, error) {
	if e, err := t.Lstat(name); err != nil || e.Kind != snapshot.File {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(t[name].data)), nil
}

func (t fakeTree) Xattrs(name string) (map[string]string, error) {
	_, err := t.Lstat(name)
	return t[name].xattrs, err
}

// list describes a tree, one line for each name but the root:
//
//	name kind mode uid:gid time what
//
// where the time is left out if it is when.
func list(t testing.TB, tree snapshot.Tree) string {
	t.Helper()
	var b strings.Builder
	first := map[inode]string{}
	var visit func(name string)
	visit = func(name string) {
		entries, err := tree.ReadDir(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			child := path.Join(name, e.Name)
			fmt.Fprintf(&b, "%s %s %04o %d:%d", child, kindName(e.Kind), e.Mode, e.UID, e.GID)
			if !e.ModTime.Equal(when) {
				fmt.Fprintf(&b, " %s", e.ModTime.UTC().Format(time.RFC3339))
			}
			switch e.Kind {
			case snapshot.File:
				at := inode{e.Dev, e.Ino}
				if old := first[at]; old != "" && e.Nlink > 1 {
					fmt.Fprintf(&b, " same as %s", old)
				} else {
					first[at] = child
					fmt.Fprintf(&b, " %q", read(t, tree, child))
				}
			case snapshot.Symlink:
				fmt.Fprintf(&b, " -> %s", e.Link)
			case snapshot.CharDevice, snapshot.BlockDevice:
				fmt.Fprintf(&b, " %d:%d", e.Major, e.Minor)
			}
			xattrs, err := tree.Xattrs(child)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range slices.Sorted(maps.Keys(xattrs)) {
				fmt.Fprintf(&b, " %s=%q", k, xattrs[k])
			}
			b.WriteByte('\n')
			if e.Kind == snapshot.Dir {
				visit(child)
			}
		}
	}
	visit(".")
	return b.String()
}

func kindName(k snapshot.Kind) string {
	return []string{"file", "dir", "link", "char", "block", "fifo", "socket"}[k]
}

func read(t testing.TB, tree snapshot.Tree, name string) string {
	t.Helper()
	r, err := tree.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// lines removes the indentation of a test's expectation.
func lines(s string) string {
	var b bytes.Buffer
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// hostDir makes files of the given contents in a new directory; names that end in a
// slash are directories, and contents that begin with "-> " are links.
func hostDir(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		full := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(full, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		if to, ok := strings.CutPrefix(data, "-> "); ok {
			must(t, os.Symlink(to, full))
		} else {
			must(t, os.WriteFile(full, []byte(data), 0o644))
		}
	}
	return root
}

func host(t testing.TB, root string) *HostTree {
	t.Helper()
	h, err := Host(root)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names lists what a tree has.
func names(t testing.TB, tree snapshot.Tree) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(list(t, tree)) {
		name, _, _ := strings.Cut(line, " ")
		out = append(out, name)
	}
	return out
}
