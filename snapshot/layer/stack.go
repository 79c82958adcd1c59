package layer

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// Stack is layers seen as one tree, what a process sees on an overlay of them.
type Stack struct {
	layers []*Dir // lowest first; nil of a stack of lists
	parts  []Part // the same

	mu   sync.Mutex
	dirs map[string]*merged // directories that were looked at
}

var _ snapshot.Tree = (*Stack)(nil)

// Part is one layer of a stack: a [Dir], or a [List] of one that is elsewhere.
type Part interface {
	Lstat(name string) (Item, error)
	ReadDir(name string) ([]Item, error)
	Xattrs(name string) (map[string]string, error)
	open(name string) (io.ReadCloser, error)
}

// NewStack returns a stack of layers, lowest first, of which some may be lists. To
// open a file of these is an [ErrNoContent].
func NewStack(parts []Part) *Stack { return &Stack{parts: parts, dirs: map[string]*merged{}} }

// ContentDigest returns the digest of the content of a regular file, as the list says
// that it is in. It is "" for what is in a layer that is here, and ErrNoContent if the list
// does not say.
func (s *Stack) ContentDigest(name string) (digest.Digest, error) {
	m, err := s.find("digest", name)
	if err != nil {
		return "", err
	}
	l, ok := m.from.(*List)
	if !ok {
		return "", nil
	}
	it := l.items[name]
	if it == nil || l.first(it).Digest == "" {
		return "", &fs.PathError{Op: "digest", Path: name, Err: ErrNoContent}
	}
	return l.first(it).Digest, nil
}

// merged is a name of the stack: which layers it comes from.
type merged struct {
	entry snapshot.Entry
	// from is the layer that describes the name; nil for a directory that every
	// layer only implies.
	from Part
	// dirs are the layers whose files are in the directory, uppermost first.
	dirs []Part
}

// Layers returns the layers, lowest first.
func (s *Stack) Layers() []*Dir { return s.layers }

// Lstat implements [snapshot.Tree].
func (s *Stack) Lstat(name string) (snapshot.Entry, error) {
	m, err := s.find("lstat", name)
	if err != nil {
		return snapshot.Entry{}, err
	}
	return m.entry, nil
}

// ReadDir implements [snapshot.Tree].
func (s *Stack) ReadDir(name string) ([]snapshot.Entry, error) {
	m, err := s.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if m.entry.Kind != snapshot.Dir {
		return nil, notExist("readdir", name)
	}
	var es []snapshot.Entry
	seen := map[string]bool{}
	for _, d := range m.dirs {
		items, err := d.ReadDir(name)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			if seen[it.Name] {
				continue
			}
			seen[it.Name] = true
			if it.Whiteout {
				continue
			}
			if it.Implied { // the layers below describe it
				if it.Entry, err = s.Lstat(join(name, it.Name)); err != nil {
					return nil, err
				}
			}
			es = append(es, it.Entry)
		}
	}
	slices.SortFunc(es, byName)
	return es, nil
}

// Open implements [snapshot.Tree].
func (s *Stack) Open(name string) (io.ReadCloser, error) {
	m, err := s.find("open", name)
	if err != nil {
		return nil, err
	}
	if m.entry.Kind != snapshot.File {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	return m.from.open(name)
}

// Xattrs implements [snapshot.Tree].
func (s *Stack) Xattrs(name string) (map[string]string, error) {
	m, err := s.find("xattrs", name)
	if err != nil || m.from == nil {
		return nil, err
	}
	return m.from.Xattrs(name)
}

// find looks name up. Only the layers that have its parent are asked, and what
// is learnt of directories is kept.
func (s *Stack) find(op, name string) (*merged, error) {
	if err := checkName(op, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	m := s.dirs[name]
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	var in []Part // uppermost first
	if name == "." {
		in = slices.Clone(s.parts)
		slices.Reverse(in)
	} else {
		dir, _ := split(name)
		parent, err := s.find(op, dir)
		if err != nil {
			return nil, err
		}
		in = parent.dirs
	}
	m, err := merge(name, in)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, notExist(op, name)
	}
	if m.entry.Kind == snapshot.Dir {
		s.mu.Lock()
		s.dirs[name] = m
		s.mu.Unlock()
	}
	return m, nil
}

// merge puts together what the layers in, uppermost first, say of name. It
// returns nil if they do not have it.
func merge(name string, in []Part) (*merged, error) {
	var m *merged
	opaque := false // what is still below gives attributes but no files
	for _, d := range in {
		it, err := d.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if it.Kind != snapshot.Dir {
			if m == nil && !it.Whiteout {
				m = &merged{entry: it.Entry, from: d}
			}
			break
		}
		if m == nil {
			m = &merged{entry: it.Entry}
		}
		if !opaque {
			m.dirs = append(m.dirs, d)
		}
		if m.from == nil && !it.Implied {
			m.entry, m.from = it.Entry, d
		}
		opaque = opaque || it.Opaque
		if opaque && m.from != nil {
			break
		}
	}
	if m == nil && name == "." { // a stack of no layers is an empty directory
		m = &merged{entry: snapshot.Entry{Name: ".", Kind: snapshot.Dir, Nlink: 1}}
		imply(&m.entry)
	}
	return m, nil
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}
