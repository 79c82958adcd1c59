package fileset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// item is one file of a match, as a walk meets it.
type item struct {
	name  string // in the tree
	rel   string // below the match; "." for the match itself
	entry snapshot.Entry
	// link is the rel of an earlier item that is the same file (a hard link).
	link string
	// above marks a directory that is not selected itself, but for what is in it.
	above bool
}

// isTop tells whether the item is the selected directory itself, of which only
// the contents are copied.
func (it item) isTop() bool { return it.rel == "." && it.entry.Kind == snapshot.Dir }

// below is the item's name in the selected directory, and nothing for a file that
// is selected itself.
func (it item) below() string {
	if it.rel == "." {
		return ""
	}
	return it.rel
}

type inode struct{ dev, ino uint64 }

// walk calls fn for everything in m: a directory before what is in it, and that
// sorted by name. Equal trees are walked equally, however their disks list them.
// A directory that m's filter leaves out comes only if something in it does not.
func walk(ctx context.Context, t snapshot.Tree, m match, fn func(item) error) error {
	w := walker{ctx: ctx, tree: t, filter: m.filter, links: map[inode]string{}, fn: fn}
	return w.visit(item{name: m.name, rel: ".", entry: m.entry}, judgement{copied: true, below: true})
}

type walker struct {
	ctx    context.Context //nolint:containedctx // the life of one walk
	tree   snapshot.Tree
	filter *filter
	links  map[inode]string
	fn     func(item) error
	// waiting are the directories above the current item, outermost first, that
	// come only if something in them does.
	waiting []item
}

// visit walks it, of which the filter says j.
func (w *walker) visit(it item, j judgement) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if j.copied {
		if err := w.emit(it); err != nil {
			return err
		}
	}
	if it.entry.Kind != snapshot.Dir || !j.below {
		return nil
	}
	if !j.copied {
		it.above = true
		w.waiting = append(w.waiting, it)
		n := len(w.waiting)
		defer func() { w.waiting = w.waiting[:min(len(w.waiting), n-1)] }()
	}
	entries, err := w.tree.ReadDir(it.name)
	if err != nil {
		return readError(it.name, err)
	}
	for _, e := range entries {
		child := item{name: path.Join(it.name, e.Name), rel: path.Join(it.rel, e.Name), entry: e}
		below := judgement{copied: true, below: true}
		if w.filter != nil {
			if below, err = w.filter.judge(child.rel, j); err != nil {
				return err
			}
		}
		if err := w.visit(child, below); err != nil {
			return err
		}
	}
	return nil
}

// emit passes on what waits for it, and then it.
func (w *walker) emit(it item) error {
	for _, dir := range w.waiting {
		if err := w.fn(dir); err != nil {
			return err
		}
	}
	w.waiting = w.waiting[:0]
	if e := it.entry; e.Kind == snapshot.File && e.Nlink > 1 {
		at := inode{e.Dev, e.Ino}
		if first, ok := w.links[at]; ok {
			it.link = first
		} else {
			w.links[at] = it.rel
		}
	}
	return w.fn(it)
}

// readError is why a file that was listed cannot be read. If it is gone, that is
// a change of the tree and not a miss.
func readError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, ErrChanged)
	}
	return err
}

// openWithXattrs opens a regular file and returns its extended attributes.
func openWithXattrs(t snapshot.Tree, name string) (io.ReadCloser, map[string]string, error) {
	if fast, ok := t.(interface {
		openWithXattrs(string) (io.ReadCloser, map[string]string, error)
	}); ok {
		return fast.openWithXattrs(name)
	}
	xattrs, err := t.Xattrs(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := t.Open(name)
	return f, xattrs, err
}

// describe returns the sum of an item. content is asked for the digest of a
// regular file's content and attributes.
func describe(
	t snapshot.Tree, it item, resetOwner bool, content func(item) (digest.Digest, error),
) (Sum, error) {
	e := it.entry
	s := Sum{Name: it.name, Mode: typeBits(e.Kind) | e.Mode}
	if !resetOwner {
		s.UID, s.GID = e.UID, e.GID
	}
	var err error
	switch e.Kind {
	case snapshot.File:
		if it.link != "" {
			s.Digest = digest.FromString("hard link\x00" + it.link)
			return s, nil
		}
		s.Digest, err = content(it)
		return s, err
	case snapshot.Symlink:
		s.Mode = typeBits(e.Kind) | 0o777 // as Linux has it; others may say something else
		s.Digest = digest.FromString(e.Link)
	case snapshot.CharDevice, snapshot.BlockDevice:
		s.Digest = digest.FromString(strconv.Itoa(int(e.Major)) + ":" + strconv.Itoa(int(e.Minor)))
	case snapshot.Socket:
		// What is copied is an empty file.
		s.Mode, s.Digest = typeBits(snapshot.File)|e.Mode, digest.FromString("")
		return s, nil
	}
	xattrs, err := t.Xattrs(it.name)
	if err != nil {
		return s, readError(it.name, err)
	}
	s.Digest = withXattrs(s.Digest, xattrs)
	return s, nil
}

// withXattrs returns a digest of what d stands for and of xattrs. Without any it
// is d.
func withXattrs(d digest.Digest, xattrs map[string]string) digest.Digest {
	if len(xattrs) == 0 {
		return d
	}
	names := make([]string, 0, len(xattrs))
	for n := range xattrs {
		names = append(names, n)
	}
	slices.Sort(names)
	b := []byte("extended attributes\x00")
	b = appendString(b, string(d))
	for _, n := range names {
		b = appendString(b, n)
		b = appendString(b, xattrs[n])
	}
	return digest.FromBytes(b)
}
