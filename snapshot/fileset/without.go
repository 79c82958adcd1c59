package fileset

import (
	"io"
	"path"
	"slices"
	"strings"

	"lamina/snapshot"
)

// Without returns t without the directory dir and all beneath it.
func Without(t snapshot.Tree, dir string) snapshot.Tree { return &withoutTree{t, dir} }

type withoutTree struct {
	tree snapshot.Tree
	dir  string
}

// missing tells whether name is not in t though it is in the tree beneath.
func (t *withoutTree) missing(name string) bool {
	return name == t.dir || strings.HasPrefix(name, t.dir+"/")
}

// Lstat implements [snapshot.Tree].
func (t *withoutTree) Lstat(name string) (snapshot.Entry, error) {
	if t.missing(name) {
		return snapshot.Entry{}, hidden("lstat", name, nil)
	}
	return t.tree.Lstat(name)
}

// ReadDir implements [snapshot.Tree].
func (t *withoutTree) ReadDir(name string) ([]snapshot.Entry, error) {
	if t.missing(name) {
		return nil, hidden("readdir", name, nil)
	}
	all, err := t.tree.ReadDir(name)
	return slices.DeleteFunc(all, func(e snapshot.Entry) bool { return t.missing(path.Join(name, e.Name)) }), err
}

// Open implements [snapshot.Tree].
func (t *withoutTree) Open(name string) (io.ReadCloser, error) {
	if t.missing(name) {
		return nil, hidden("open", name, nil)
	}
	return t.tree.Open(name)
}

// Xattrs implements [snapshot.Tree].
func (t *withoutTree) Xattrs(name string) (map[string]string, error) {
	if t.missing(name) {
		return nil, hidden("xattrs", name, nil)
	}
	return t.tree.Xattrs(name)
}

func (t *withoutTree) openWithXattrs(name string) (io.ReadCloser, map[string]string, error) {
	if t.missing(name) {
		return nil, nil, hidden("open", name, nil)
	}
	return openWithXattrs(t.tree, name)
}

// Path returns the path of the tree beneath, which identifies its files.
func (t *withoutTree) Path() string { return rootPath(t.tree) }
