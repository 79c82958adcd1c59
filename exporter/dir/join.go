package dir

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"lamina/snapshot"
)

// Join returns a tree with a directory for each of trees, by its name: what
// builds for several platforms leave behind, as "linux_amd64" and so on. Names
// are single path elements.
func Join(trees map[string]snapshot.Tree) snapshot.Tree { return joined(trees) }

type joined map[string]snapshot.Tree

// split finds the tree that has name, and its name there; no tree for the root.
func (j joined) split(op, name string) (snapshot.Tree, string, error) {
	if name == "." {
		return nil, "", nil
	}
	first, rest, _ := strings.Cut(name, "/")
	t, ok := j[first]
	if !ok {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	if rest == "" {
		rest = "."
	}
	return t, rest, nil
}

// top describes the root, or with another name what the tree's root looks like
// from outside.
func top(name string) snapshot.Entry {
	return snapshot.Entry{Name: name, Kind: snapshot.Dir, Mode: 0o755, ModTime: time.Unix(0, 0)}
}

func (j joined) Lstat(name string) (snapshot.Entry, error) {
	t, rest, err := j.split("lstat", name)
	if err != nil || t == nil {
		return top("."), err
	}
	if rest == "." {
		return top(name), nil
	}
	return t.Lstat(rest)
}

func (j joined) ReadDir(name string) ([]snapshot.Entry, error) {
	t, rest, err := j.split("readdir", name)
	if err != nil {
		return nil, err
	}
	if t != nil {
		return t.ReadDir(rest)
	}
	var all []snapshot.Entry
	for _, name := range slices.Sorted(maps.Keys(j)) {
		all = append(all, top(name))
	}
	return all, nil
}

func (j joined) Open(name string) (io.ReadCloser, error) {
	t, rest, err := j.split("open", name)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a directory")}
	}
	return t.Open(rest)
}

func (j joined) Xattrs(name string) (map[string]string, error) {
	t, rest, err := j.split("xattrs", name)
	if err != nil || t == nil || rest == "." {
		return nil, err
	}
	return t.Xattrs(rest)
}
