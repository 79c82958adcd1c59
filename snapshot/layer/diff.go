package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"lamina/snapshot"
)

// Diff writes to d what makes top of base: a layer that, on base, gives top.
//
// It compares names and inodes, and only then attributes and content, so it is
// quick where the two trees are stacks that share their lower layers. What has
// become another file with the same content is no change.
func Diff(ctx context.Context, d *Draft, base, top snapshot.Tree) error {
	x := differ{ctx: ctx, draft: d, base: base, top: top, links: map[inode]string{}}
	if err := x.root(); err != nil {
		return fmt.Errorf("compare files: %w", err)
	}
	if err := d.Prune(base); err != nil {
		return fmt.Errorf("compare files: %w", err)
	}
	return nil
}

// inode tells hard links apart.
type inode struct{ dev, ino uint64 }

type differ struct {
	ctx       context.Context
	draft     *Draft
	base, top snapshot.Tree
	links     map[inode]string // the first name of each file that was written and has several
}

func (x *differ) root() error {
	now, err := x.top.Lstat(".")
	if err != nil {
		return err
	}
	old, err := x.base.Lstat(".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && (now.Mode != old.Mode || now.UID != old.UID || now.GID != old.GID) {
		if err := x.draft.Mkdir(".", now); err != nil {
			return err
		}
	}
	return x.children(".", err == nil)
}

// children writes what changed in the directory name, which base has, too, if it
// is old.
func (x *differ) children(name string, old bool) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	entries, err := x.top.ReadDir(name)
	if err != nil {
		return err
	}
	before := map[string]snapshot.Entry{}
	if old {
		all, err := x.base.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range all {
			before[e.Name] = e
		}
	}
	for _, e := range entries {
		was, known := before[e.Name]
		delete(before, e.Name)
		if err := x.entry(join(name, e.Name), e, was, known); err != nil {
			return err
		}
	}
	for gone := range before {
		if err := x.draft.Whiteout(join(name, gone)); err != nil {
			return err
		}
	}
	return nil
}

func (x *differ) entry(name string, e, was snapshot.Entry, known bool) error {
	switch {
	case e.Kind == snapshot.Socket:
		return nil
	case e.Kind == snapshot.Dir:
		return x.directory(name, e, was, known)
	case known && was.Kind == e.Kind && was.Dev == e.Dev && was.Ino == e.Ino && was.Nlink == e.Nlink:
		return nil // the same file of the same layer
	}
	if err := x.file(name, e); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (x *differ) directory(name string, e, was snapshot.Entry, known bool) error {
	old := known && was.Kind == snapshot.Dir
	xattrs, err := x.top.Xattrs(name)
	if err != nil {
		return err
	}
	if err := x.draft.Mkdir(name, e); err != nil {
		return err
	}
	if err := x.attributes(name, e, xattrs); err != nil {
		return err
	}
	return x.children(name, old)
}

func (x *differ) attributes(name string, e snapshot.Entry, xattrs map[string]string) error {
	if len(xattrs) == 0 {
		return nil
	}
	return x.draft.SetAttrs(name, e, xattrs)
}

// file writes something that is no directory.
func (x *differ) file(name string, e snapshot.Entry) error {
	if e.Nlink > 1 {
		id := inode{e.Dev, e.Ino}
		if first, ok := x.links[id]; ok {
			return x.draft.Link(first, name)
		}
		x.links[id] = name
	}
	xattrs, err := x.top.Xattrs(name)
	if err != nil {
		return err
	}
	switch e.Kind {
	case snapshot.File:
		err = x.content(name, e)
	case snapshot.Symlink:
		err = x.draft.Symlink(name, e)
	case snapshot.Fifo:
		err = x.draft.Fifo(name, e)
	default:
		err = x.draft.Device(name, e)
	}
	if err != nil {
		return err
	}
	return x.attributes(name, e, xattrs)
}

func (x *differ) content(name string, e snapshot.Entry) error {
	r, err := x.top.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	return x.draft.File(name, e, r)
}
