package fileset

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"lamina/snapshot"
)

// MemoryFile is a regular file of a [Memory] tree. It belongs to 0:0.
type MemoryFile struct {
	// Name is the file's path in the tree, relative and slash-separated.
	Name string
	// Mode is 0 to 07777.
	Mode uint32
	// ModTime is zero for a file that is made by being copied.
	ModTime time.Time
	// Data is the content, unless Open is set.
	Data []byte
	// Open, if set, returns the content, which has Size bytes, from elsewhere.
	Open func() (io.ReadCloser, error)
	Size int64
}

// memoryTree holds every file and directory by its name, "." included.
type memoryTree map[string]*memoryNode

type memoryNode struct {
	entry    snapshot.Entry
	file     MemoryFile
	children []snapshot.Entry // of a directory, sorted
}

// Memory returns a tree of files that are in no directory of this machine: the
// here-documents of a Dockerfile, or one downloaded file. The directories that
// names imply are made. Of two files of one name the later counts. It panics if a
// name is that of the root, or also that of a directory.
func Memory(files ...MemoryFile) snapshot.Tree {
	t := memoryTree{}
	t.dir(".")
	for _, f := range files {
		name := strings.TrimPrefix(path.Clean("/"+f.Name), "/")
		if old := t[name]; name == "" || old != nil && old.entry.Kind == snapshot.Dir {
			panic(fmt.Sprintf("fileset: %q cannot name a file in memory", f.Name))
		}
		size := f.Size
		if f.Open == nil {
			size = int64(len(f.Data))
		}
		t.add(name, &memoryNode{file: f, entry: snapshot.Entry{
			Name:    path.Base(name),
			Kind:    snapshot.File,
			Mode:    f.Mode,
			ModTime: f.ModTime,
			Size:    size,
			Nlink:   1,
		}})
	}
	return t
}

// add puts n, which is not a root, into the directory that its name implies.
func (t memoryTree) add(name string, n *memoryNode) {
	dir := t.dir(path.Dir(name))
	t[name] = n
	i, found := slices.BinarySearchFunc(dir.children, n.entry, func(a, b snapshot.Entry) int {
		return cmp.Compare(a.Name, b.Name)
	})
	if found {
		dir.children[i] = n.entry
		return
	}
	dir.children = slices.Insert(dir.children, i, n.entry)
}

// dir returns the directory name, made if need be.
func (t memoryTree) dir(name string) *memoryNode {
	n := t[name]
	if n != nil && n.entry.Kind == snapshot.Dir {
		return n
	}
	if n != nil {
		panic(fmt.Sprintf("fileset: %q is a file in memory and a directory", name))
	}
	n = &memoryNode{entry: snapshot.Entry{
		Name: path.Base(name), Kind: snapshot.Dir, Mode: 0o755, Nlink: 1,
	}}
	if name == "." {
		t[name] = n
	} else {
		t.add(name, n)
	}
	return n
}

// Lstat implements [snapshot.Tree].
func (t memoryTree) Lstat(name string) (snapshot.Entry, error) {
	n := t[name]
	if n == nil {
		return snapshot.Entry{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return n.entry, nil
}

// ReadDir implements [snapshot.Tree].
func (t memoryTree) ReadDir(name string) ([]snapshot.Entry, error) {
	n := t[name]
	if n == nil || n.entry.Kind != snapshot.Dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(n.children), nil
}

// Open implements [snapshot.Tree].
func (t memoryTree) Open(name string) (io.ReadCloser, error) {
	n := t[name]
	if n == nil || n.entry.Kind != snapshot.File {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if n.file.Open != nil {
		return n.file.Open()
	}
	return io.NopCloser(bytes.NewReader(n.file.Data)), nil
}

// Xattrs implements [snapshot.Tree].
func (t memoryTree) Xattrs(name string) (map[string]string, error) {
	_, err := t.Lstat(name)
	return nil, err
}
