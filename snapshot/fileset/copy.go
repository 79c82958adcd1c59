package fileset

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// From is one source of a [Copy].
type From struct {
	Selection *Selection
	// Unpack extracts files that are tar archives, compressed or not, as their
	// content tells.
	Unpack bool
	// ResetOwner gives everything to 0:0, unless the copy has an owner: the
	// source is a build context, whose owners mean nothing in an image. What is
	// unpacked keeps the owners of its archive.
	ResetOwner bool
	// Expect is what [Selection.Digest] returned, which left owners out if they are
	// not copied. If it is set, copying something else fails with [ErrChanged]: so
	// what is copied is what was identified, whatever happened in between. Every
	// byte is hashed for that as it is copied. That the file's status is what it
	// was says less: who writes to a mapped file, or to one on a network's
	// filesystem, need not change it.
	Expect *Identity
	// Table, if set, is called for each file that was copied, in order.
	Table func(Sum) error
}

// CopyOptions say where files go and what becomes of their attributes.
type CopyOptions struct {
	// Dest is an absolute path. It is a directory if it ends in a slash.
	Dest string
	// Owner, if set, is to own everything that is made.
	Owner *Owner
	// Mode is an octal or symbolic mode, as in [ParseMode]; empty keeps modes.
	Mode string
	// Now is the modification time of what has no other: directories that have to
	// be made, and here-documents.
	Now time.Time
}

// Copy writes what copying from onto base changes as a layer, by these rules:
//
//   - Dest is looked up through base's links. It and its parents are made if need
//     be, with mode 0755 (or an octal Mode), for Owner or 0:0.
//   - A directory means its contents. A file gets the name Dest, or its own one
//     inside Dest if that is or must be a directory.
//   - An existing destination keeps its owner and mode; directories beneath it
//     take those of their source. Its time becomes that of the source, or, if that
//     is a tree's root or a file, Now.
//   - A file replaces what is not a directory. A directory and something else
//     never replace each other.
//   - Directories that are there only for what is in them (see [Query]) get the
//     time Now when something is made in them. One that exists only gets the mode
//     of its source.
//   - Links beneath a source stay links; hard links beneath one source stay hard
//     links; a socket becomes an empty file.
//
// The layer also holds the directories above what it changes, as they are in base.
func Copy(ctx context.Context, d *layer.Draft, base snapshot.Tree, from []From, opt CopyOptions) error {
	c := copier{opt: opt}
	c.target = newTarget(d, base, c.time(time.Time{}))
	if opt.Mode != "" {
		var err error
		if c.mode, err = ParseMode(opt.Mode); err != nil {
			return err
		}
	}
	for _, f := range from {
		f.ResetOwner = f.ResetOwner || opt.Owner != nil
		x := newIdentifier(f.Table, f.Expect)
		for i := range f.Selection.matches {
			if err := c.match(ctx, f, &f.Selection.matches[i], x); err != nil {
				return err
			}
		}
		if _, err := x.identity(f.Selection.query.Paths); err != nil {
			return err
		}
	}
	return nil
}

type copier struct {
	target *target
	opt    CopyOptions
	mode   ModeChange
	// empty are directories that this match has made: nothing can be in them but
	// what it puts there itself, under a name that comes once.
	empty map[string]bool
	// above are the directories of this match that were made or found for what is
	// in them: making something there changes their time.
	above map[string]bool
}

// match copies one match.
func (c *copier) match(ctx context.Context, f From, m *match, x *identifier) error {
	if f.Unpack && m.entry.Kind == snapshot.File {
		archive, err := isArchive(f.Selection.tree, m.name)
		if err != nil {
			return readError(m.name, err)
		}
		if archive {
			return c.unpack(ctx, f.Selection.tree, m, x)
		}
	}
	x.match(m, false)
	dst, err := c.destination(m)
	if err != nil {
		return err
	}
	c.empty, c.above = map[string]bool{}, map[string]bool{}
	err = walk(ctx, f.Selection.tree, *m, func(it item) error {
		if it.isTop() {
			return nil
		}
		return c.item(ctx, f, it, dst, x)
	})
	switch {
	case err != nil:
		return err
	case m.entry.Kind != snapshot.Dir:
		return c.target.touch(path.Dir(dst))
	case m.name == ".":
		return c.target.touch(dst) // what a tree's root is in has no time to tell
	}
	return c.target.setTime(dst, c.time(m.entry.ModTime))
}

// destination returns where m goes, whose parents, and for a directory itself,
// then exist.
func (c *copier) destination(m *match) (string, error) {
	// A name after a link that leads nowhere is made where the link leads.
	first := path.Dir(c.opt.Dest)
	if strings.HasSuffix(c.opt.Dest, "/") || strings.HasSuffix(c.opt.Dest, "/.") {
		first = c.opt.Dest
	}
	if err := c.mkdirAll(first, c.mode.newDir()); err != nil {
		return "", err
	}
	dst, err := c.target.resolve(path.Clean(c.opt.Dest))
	if err != nil {
		return "", err
	}
	old, err := c.target.lstat(dst)
	exists := err == nil
	switch {
	case m.entry.Kind != snapshot.Dir && exists && old.Kind == snapshot.Dir:
		dst = path.Join(dst, m.base)
	case m.entry.Kind == snapshot.Dir && exists && old.Kind != snapshot.Dir:
		return "", fmt.Errorf("cannot copy to non-directory: /%s", dst)
	}
	parent := path.Dir(dst)
	if m.entry.Kind == snapshot.Dir {
		parent = dst
	}
	return dst, c.mkdirAll("/"+parent, c.mode.newDir())
}

// mkdirAll makes the directory that name means, if there is none.
func (c *copier) mkdirAll(name string, mode uint32) error {
	resolved, err := c.target.resolve(name)
	if err != nil {
		return err
	}
	_, err = c.target.mkdirAll(resolved, c.newDir(mode), c.opt.Owner != nil)
	return err
}

// newDir is what a directory is like that no source describes.
func (c *copier) newDir(mode uint32) snapshot.Entry {
	e := snapshot.Entry{Kind: snapshot.Dir, Mode: mode, ModTime: c.time(time.Time{})}
	if o := c.opt.Owner; o != nil {
		e.UID, e.GID = o.UID, o.GID
	}
	return e
}

// time returns the modification time of something whose source has the time own,
// or none if that is zero.
func (c *copier) time(own time.Time) time.Time {
	if own.IsZero() {
		return c.opt.Now
	}
	return own
}

// item copies one file or directory beneath dst.
func (c *copier) item(ctx context.Context, f From, it item, dst string, x *identifier) error {
	name := path.Join(dst, it.rel)
	exists, err := c.checkReplace(it, name)
	if err != nil {
		return err
	}
	if len(c.above) > 0 && c.above[path.Dir(name)] && !(exists && it.entry.Kind == snapshot.Dir) {
		if err := c.target.touch(path.Dir(name)); err != nil {
			return err
		}
	}
	var content digest.Digest
	switch {
	case it.above:
		err = c.writeAbove(ctx, f, it, name, exists)
	case it.link != "":
		err = c.target.link(path.Join(dst, it.link), name)
	default:
		content, err = c.write(ctx, f, it, name)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", it.name, err)
	}
	sum, err := describe(f.Selection.tree, it, f.ResetOwner, func(item) (digest.Digest, error) {
		return content, nil
	})
	if err != nil {
		return err
	}
	return x.file(it.below(), false, sum)
}

// checkReplace tells whether something is at name, and fails if the item cannot
// take its place.
func (c *copier) checkReplace(it item, name string) (exists bool, err error) {
	isDir := it.entry.Kind == snapshot.Dir
	var old snapshot.Entry
	if !c.empty[path.Dir(name)] {
		old, err = c.target.lstat(name)
		exists = err == nil
	}
	switch {
	case exists && isDir && old.Kind != snapshot.Dir:
		return true, fmt.Errorf("cannot copy to non-directory: /%s", name)
	case exists && !isDir && old.Kind == snapshot.Dir:
		return true, fmt.Errorf("cannot replace the directory /%s by the file %s", name, it.name)
	case !exists && isDir:
		c.empty[name] = true
	}
	return exists, nil
}

// writeAbove makes a directory that is needed for what is in it.
func (c *copier) writeAbove(ctx context.Context, f From, it item, name string, exists bool) error {
	c.above[name] = true
	if !exists {
		_, err := c.write(ctx, f, it, name)
		return err
	}
	e, err := c.target.lstat(name)
	if err != nil {
		return err
	}
	e.Mode = it.entry.Mode
	return c.target.mkdir(name, e, nil)
}

// write writes an item at name and returns the sum of a regular file.
func (c *copier) write(ctx context.Context, f From, it item, name string) (digest.Digest, error) {
	tree := f.Selection.tree
	e := it.entry
	e.Mode = c.mode.Apply(e.Mode, e.Kind)
	e.ModTime = c.time(e.ModTime)
	switch {
	case c.opt.Owner != nil:
		e.UID, e.GID = c.opt.Owner.UID, c.opt.Owner.GID
	case f.ResetOwner:
		e.UID, e.GID = 0, 0
	}
	if e.Kind == snapshot.File {
		return c.writeFile(ctx, tree, it.name, name, e)
	}
	xattrs, err := tree.Xattrs(it.name)
	if err != nil {
		return "", readError(it.name, err)
	}
	if e.Kind == snapshot.Dir {
		return "", c.target.mkdir(name, e, xattrs)
	}
	return "", c.target.put(name, e, xattrs, nil)
}

func (c *copier) writeFile(
	ctx context.Context, tree snapshot.Tree, from, to string, e snapshot.Entry,
) (digest.Digest, error) {
	r, xattrs, err := openWithXattrs(tree, from)
	if err != nil {
		return "", readError(from, err)
	}
	defer r.Close()
	h := newHashReader(ctx, r)
	if err := c.target.put(to, e, xattrs, h); err != nil {
		return "", err
	}
	return withXattrs(h.Digest(), xattrs), nil
}
