package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// diff writes to draft what makes the copy of t differ from its stack.
func diff(ctx context.Context, t *tx, draft *layer.Draft) error {
	now, err := lstat(t.root())
	if err != nil {
		return err
	}
	d := differ{
		tx: t, draft: draft,
		dirs: map[string]inode{".": now}, kept: map[string]bool{}, links: map[uint64]string{},
		origins: map[uint64]*copied{},
	}
	for _, c := range t.before {
		d.origins[c.number] = c
	}
	// The root is implied, and so has the attributes of below, unless it got others.
	before := t.before["."].inode
	d.kept["."] = now.mode == before.mode && now.uid == before.uid && now.gid == before.gid
	if err := d.keepDir("."); err != nil {
		return err
	}
	if err := d.children(ctx, ".", true); err != nil {
		return err
	}
	return draft.Prune(t.stack)
}

// differ compares a copy with what it was when it was made.
type differ struct {
	*tx
	draft   *layer.Draft
	dirs    map[string]inode   // the directories met so far
	kept    map[string]bool    // those of them that are in the draft
	links   map[uint64]string  // the first name of each kept file that has several
	origins map[uint64]*copied // by number: files keep it when they are renamed
}

func (d *differ) path(name string) string { return filepath.Join(d.root(), name) }

// children keeps what changed in the directory dir. If it is not old, nothing
// in it comes from the stack.
func (d *differ) children(ctx context.Context, dir string, old bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := readDir(d.path(dir))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		now, err := lstat(d.path(name))
		if err != nil {
			return err
		}
		if !storable(now) {
			continue
		}
		there[e.Name()] = true
		if err := d.child(ctx, name, now, old); err != nil {
			return err
		}
	}
	if !old {
		return nil
	}
	return d.whiteouts(dir, there)
}

// child keeps what changed of name.
func (d *differ) child(ctx context.Context, name string, now inode, inOld bool) error {
	before := d.before[name]
	if !inOld {
		before = nil
	}
	old := before != nil && before.is(now)
	changed := !old || before.inode != now
	if !now.isDir() {
		if !changed {
			return nil
		}
		if err := d.keepDir(path.Dir(name)); err != nil {
			return err
		}
		if err := d.keepFile(name, now); err != nil {
			return fmt.Errorf("keep /%s: %w", name, err)
		}
		return nil
	}
	d.dirs[name] = now
	if changed {
		if err := d.keepDir(name); err != nil {
			return err
		}
	}
	if !old && before != nil && before.name != "" && before.isDir() {
		if err := d.draft.Opaque(name); err != nil {
			return err
		}
	}
	return d.children(ctx, name, old)
}

// whiteouts hides what the copy had in dir and has no more.
func (d *differ) whiteouts(dir string, there map[string]bool) error {
	entries, err := d.stack.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a stub
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if there[e.Name] || d.before[name] == nil {
			continue
		}
		if err := d.keepDir(dir); err != nil {
			return err
		}
		if err := d.draft.Whiteout(name); err != nil {
			return err
		}
	}
	return nil
}

// keepDir puts the directory name, which was met, and those above it into the draft.
func (d *differ) keepDir(name string) error {
	if d.kept[name] {
		return nil
	}
	if name != "." {
		if err := d.keepDir(path.Dir(name)); err != nil {
			return err
		}
	}
	d.kept[name] = true
	e, xattrs, err := d.truth(name, d.dirs[name])
	if err != nil {
		return err
	}
	if err := d.draft.Mkdir(name, e); err != nil {
		return err
	}
	return d.xattrs(name, e, xattrs)
}

// keepFile puts what is not a directory into the draft.
func (d *differ) keepFile(name string, now inode) error {
	if now.links > 1 {
		if first, ok := d.links[now.number]; ok {
			return d.draft.Link(first, name)
		}
		d.links[now.number] = name
	}
	e, xattrs, err := d.truth(name, now)
	if err != nil {
		return err
	}
	switch e.Kind {
	case snapshot.File:
		err = d.content(name, e)
	case snapshot.Symlink:
		if e.Link, err = os.Readlink(d.path(name)); err == nil {
			err = d.draft.Symlink(name, e)
		}
	case snapshot.Fifo:
		err = d.draft.Fifo(name, e)
	default:
		err = d.draft.Device(name, e)
	}
	if err != nil {
		return err
	}
	return d.xattrs(name, e, xattrs)
}

func (d *differ) content(name string, e snapshot.Entry) error {
	f, err := open(d.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	return d.draft.File(name, e, f)
}

func (d *differ) xattrs(name string, e snapshot.Entry, xattrs map[string]string) error {
	if len(xattrs) == 0 {
		return nil
	}
	return d.draft.SetAttrs(name, e, xattrs)
}

// truth returns the attributes of name that belong into an image. What was not
// changed since the copy was made is what the stack says, which the disk may
// not have taken; anything else is what is on the disk.
func (d *differ) truth(name string, now inode) (snapshot.Entry, map[string]string, error) {
	xattrs, err := readXattrs(d.path(name))
	if err != nil {
		return snapshot.Entry{}, nil, err
	}
	e := now.entry()
	before := d.origins[now.number]
	if before == nil || !before.is(now) || before.name == "" {
		return e, xattrs, nil
	}
	was, err := d.stack.Lstat(before.name)
	if err != nil {
		return snapshot.Entry{}, nil, err
	}
	if now.uid == before.uid {
		e.UID = was.UID
	}
	if now.gid == before.gid {
		e.GID = was.GID
	}
	if now.mode == before.mode {
		e.Mode = was.Mode
	}
	if now.mtime == before.mtime {
		e.ModTime = was.ModTime
	}
	if now.size == before.size && was.Kind != snapshot.Dir { // an empty file may stand for a device
		e.Kind, e.Major, e.Minor = was.Kind, was.Major, was.Minor
	}
	for key, value := range before.refused {
		if _, ok := xattrs[key]; !ok {
			xattrs[key] = value
		}
	}
	return e, xattrs, nil
}

// entry returns the attributes on the disk. An ordinary user's own files are
// those of root to a process in a user namespace, and so in an image.
func (i inode) entry() snapshot.Entry {
	e := snapshot.Entry{
		Mode: i.mode & 0o7777, UID: own(int(i.uid), os.Geteuid()), GID: own(int(i.gid), os.Getegid()),
		Size: int64(i.size), ModTime: i.modTime(),
		Major: unix.Major(i.rdev), Minor: unix.Minor(i.rdev),
	}
	switch i.kind() {
	case unix.S_IFDIR:
		e.Kind = snapshot.Dir
	case unix.S_IFLNK:
		e.Kind = snapshot.Symlink
	case unix.S_IFIFO:
		e.Kind = snapshot.Fifo
	case unix.S_IFCHR:
		e.Kind = snapshot.CharDevice
	case unix.S_IFBLK:
		e.Kind = snapshot.BlockDevice
	}
	return e
}

func own(id, mine int) int {
	if id == mine {
		return 0
	}
	return id
}

// storable tells whether a layer can hold the file: not a socket, which means
// nothing without its process, and not a device 0:0, which is a whiteout.
func storable(i inode) bool {
	return i.kind() != unix.S_IFSOCK && (i.kind() != unix.S_IFCHR || i.rdev != 0)
}
