package dir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"lamina/snapshot"
)

// Part is one of several results that go to one place.
type Part struct {
	Name string // for people
	Tree snapshot.Tree
}

// Merge returns the files of all parts as one tree. Directories of the same name
// are one, with the attributes of the first; of any other file that two parts have
// the tree cannot be read, and an error names it.
func Merge(parts []Part) snapshot.Tree { return merged(parts) }

type merged []Part

// find returns the first part that has name.
func (m merged) find(op, name string) (snapshot.Tree, snapshot.Entry, error) {
	for _, p := range m {
		e, err := p.Tree.Lstat(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return p.Tree, e, err
		}
	}
	return nil, snapshot.Entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (m merged) Lstat(name string) (snapshot.Entry, error) {
	_, e, err := m.find("lstat", name)
	return e, err
}

func (m merged) ReadDir(name string) ([]snapshot.Entry, error) {
	var all []snapshot.Entry
	owner := map[string]Part{}
	there := false
	for _, p := range m {
		entries, err := p.Tree.ReadDir(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		there = true
		for _, e := range entries {
			first, twice := owner[e.Name]
			if !twice {
				owner[e.Name] = p
				all = append(all, e)
				continue
			}
			i := slices.IndexFunc(all, func(x snapshot.Entry) bool { return x.Name == e.Name })
			if e.Kind != snapshot.Dir || all[i].Kind != snapshot.Dir {
				return nil, fmt.Errorf("%s: both %s and %s have a file %s", name, first.Name, p.Name, e.Name)
			}
		}
	}
	if !there {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	slices.SortFunc(all, func(a, b snapshot.Entry) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (m merged) Open(name string) (io.ReadCloser, error) {
	t, _, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	return t.Open(name)
}

func (m merged) Xattrs(name string) (map[string]string, error) {
	t, _, err := m.find("xattrs", name)
	if err != nil {
		return nil, err
	}
	return t.Xattrs(name)
}
