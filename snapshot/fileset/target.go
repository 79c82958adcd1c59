package fileset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// target is the filesystem that is being changed: base, seen through the draft of
// the layer above it. Names are as in a [snapshot.Tree].
type target struct {
	draft *layer.Draft
	base  snapshot.Tree
	// held are the directories that the draft has, with their attributes.
	held map[string]bool
	// visible tells of directories whether base's directory of that name is seen
	// through the draft.
	visible map[string]bool
	// replaced are names at which the draft has hidden a directory of base's by
	// something else.
	replaced map[string]bool
	// now is the time that a directory gets when something is made in it.
	now time.Time
}

func newTarget(d *layer.Draft, base snapshot.Tree, now time.Time) *target {
	return &target{
		draft:    d,
		base:     base,
		now:      now,
		held:     map[string]bool{".": true}, // the root is implied
		visible:  map[string]bool{".": true},
		replaced: map[string]bool{},
	}
}

// lstat describes name as it is by now.
func (t *target) lstat(name string) (snapshot.Entry, error) {
	e, err := t.draft.Lstat(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	if !t.showsBase(path.Dir(name)) {
		return snapshot.Entry{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return t.base.Lstat(name)
}

// showsBase tells whether what base has in the directory dir is seen.
func (t *target) showsBase(dir string) bool {
	if v, ok := t.visible[dir]; ok {
		return v
	}
	v := t.showsBase(path.Dir(dir))
	if v {
		below, err := t.base.Lstat(dir)
		v = err == nil && below.Kind == snapshot.Dir
	}
	if v {
		above, err := t.draft.Lstat(dir)
		v = err != nil || above.Kind == snapshot.Dir
	}
	t.visible[dir] = v
	return v
}

// xattrs returns the extended attributes of a name that lstat has found.
func (t *target) xattrs(name string) (map[string]string, error) {
	if _, err := t.draft.Lstat(name); err == nil {
		return t.draft.Xattrs(name)
	}
	return t.base.Xattrs(name)
}

// resolve follows the links in name, the last one included.
func (t *target) resolve(name string) (string, error) {
	return snapshot.Resolve(resolving{t.base, t}, name, true)
}

// resolving is a target as far as [snapshot.Resolve] looks at one.
type resolving struct {
	snapshot.Tree
	t *target
}

func (r resolving) Lstat(name string) (snapshot.Entry, error) { return r.t.lstat(name) }

// hold makes sure that the draft has the directory name and those above it, as
// they are in base: a layer says what the directories above its files are.
func (t *target) hold(name string) error {
	if t.held[name] {
		return nil
	}
	if err := t.hold(path.Dir(name)); err != nil {
		return err
	}
	if _, err := t.draft.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		e, err := t.base.Lstat(name)
		if err != nil {
			return err
		}
		xattrs, err := t.base.Xattrs(name)
		if err != nil {
			return err
		}
		if err := t.writeDir(name, e, xattrs); err != nil {
			return err
		}
	}
	t.held[name] = true
	return nil
}

// prepare makes sure that something can be made at name.
func (t *target) prepare(name string) error {
	// OCI image-spec, layer.md, "Whiteouts".
	if strings.HasPrefix(path.Base(name), ".wh.") {
		return fmt.Errorf("/%s: a name that begins with .wh. means a deletion to a layer", name)
	}
	return t.hold(path.Dir(name))
}

// mkdir makes the directory name, or gives the one that is there e's attributes,
// and xattrs beside those that it has.
func (t *target) mkdir(name string, e snapshot.Entry, xattrs map[string]string) error {
	if err := t.prepare(name); err != nil {
		return err
	}
	if old, err := t.lstat(name); err == nil && old.Kind == snapshot.Dir {
		kept, err := t.xattrs(name)
		if err != nil {
			return err
		}
		if len(kept) > 0 {
			kept = maps.Clone(kept)
			maps.Copy(kept, xattrs)
			xattrs = kept
		}
	}
	if err := t.writeDir(name, e, xattrs); err != nil {
		return err
	}
	if t.replaced[name] {
		// What base has here was gone in between and must not come back.
		if err := t.draft.Opaque(name); err != nil {
			return err
		}
		t.visible[name] = false
	}
	t.held[name] = true
	return nil
}

func (t *target) writeDir(name string, e snapshot.Entry, xattrs map[string]string) error {
	if name == "." {
		return nil // the root stays what it is in base
	}
	if err := t.draft.Mkdir(name, e); err != nil {
		return err
	}
	if len(xattrs) == 0 {
		return nil
	}
	return t.draft.SetAttrs(name, e, xattrs)
}

// mkdirAll makes the directory name and those above it that do not exist, all as
// e says, and tells whether it made any. As from the kernel, one made in a
// directory with the set-group-ID bit has that bit too, and, unless owned, the
// directory's group.
func (t *target) mkdirAll(name string, e snapshot.Entry, owned bool) (made bool, err error) {
	old, err := t.lstat(name)
	switch {
	case err == nil && old.Kind == snapshot.Dir:
		return false, nil
	case err == nil:
		return false, fmt.Errorf("/%s is not a directory", name)
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	dir := path.Dir(name)
	made, err = t.mkdirAll(dir, e, owned)
	if err != nil {
		return false, err
	}
	if !made {
		if err := t.touch(dir); err != nil {
			return false, err
		}
	}
	above, err := t.lstat(dir)
	if err != nil {
		return false, err
	}
	if above.Mode&setgid != 0 {
		e.Mode |= setgid
		if !owned {
			e.GID = above.GID
		}
	}
	return true, t.mkdir(name, e, nil)
}

const setgid = 0o2000

// touch gives the directory name, in which something is made, the present time.
func (t *target) touch(name string) error { return t.setTime(name, t.now) }

// write makes something that is not a directory at name, by calling put, and
// gives it xattrs. A directory there must have been removed.
func (t *target) write(name string, e snapshot.Entry, xattrs map[string]string, put func() error) error {
	if err := t.prepare(name); err != nil {
		return err
	}
	if err := put(); err != nil {
		return err
	}
	if len(xattrs) == 0 {
		return nil
	}
	return t.draft.SetAttrs(name, e, xattrs)
}

// put writes what e describes, a regular file with the bytes of r. A socket
// becomes an empty file: archives hold no sockets, and nobody listens.
func (t *target) put(name string, e snapshot.Entry, xattrs map[string]string, r io.Reader) error {
	return t.write(name, e, xattrs, func() error {
		switch e.Kind {
		case snapshot.File:
			return t.draft.File(name, e, r)
		case snapshot.Socket:
			e.Kind = snapshot.File
			return t.draft.File(name, e, strings.NewReader(""))
		case snapshot.Symlink:
			return t.draft.Symlink(name, e)
		case snapshot.Fifo:
			return t.draft.Fifo(name, e)
		case snapshot.CharDevice, snapshot.BlockDevice:
			if e.Kind == snapshot.CharDevice && e.Major == 0 && e.Minor == 0 {
				return fmt.Errorf("/%s: a character device 0:0 means a deletion to a layer", name)
			}
			return t.draft.Device(name, e)
		}
		return fmt.Errorf("/%s: unknown kind of file %d", name, e.Kind)
	})
}

// link makes name another name of the file old, which is brought up from base if
// need be.
func (t *target) link(old, name string) error {
	if _, err := t.draft.Lstat(old); errors.Is(err, fs.ErrNotExist) {
		if err := t.bringUp(old); err != nil {
			return err
		}
	}
	return t.write(name, snapshot.Entry{}, nil, func() error { return t.draft.Link(old, name) })
}

// bringUp copies a file that is not a directory from base into the draft.
func (t *target) bringUp(name string) error {
	e, err := t.lstat(name)
	if err != nil {
		return err
	}
	if e.Kind == snapshot.Dir {
		return fmt.Errorf("/%s is a directory and can have no hard link", name)
	}
	xattrs, err := t.base.Xattrs(name)
	if err != nil {
		return err
	}
	var r io.ReadCloser = io.NopCloser(strings.NewReader(""))
	if e.Kind == snapshot.File {
		if r, err = t.base.Open(name); err != nil {
			return err
		}
	}
	defer r.Close()
	return t.put(name, e, xattrs, r)
}

// removeDir makes room for something else at the directory name.
func (t *target) removeDir(name string) error {
	if t.showsBase(name) {
		t.replaced[name] = true
	}
	beneath := func(n string, _ bool) bool { return n == name || strings.HasPrefix(n, name+"/") }
	maps.DeleteFunc(t.held, beneath)
	maps.DeleteFunc(t.visible, beneath)
	return t.draft.Remove(name)
}

// setTime changes the modification time of a directory.
func (t *target) setTime(name string, at time.Time) error {
	if name == "." {
		return nil
	}
	if err := t.hold(name); err != nil {
		return err
	}
	e, err := t.draft.Lstat(name)
	if err != nil {
		return err
	}
	e.ModTime = at
	return t.draft.SetAttrs(name, e, nil)
}
