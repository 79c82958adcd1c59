package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// change calls do, locked, with the directory that name is in and its name
// there; "." is in itself. Parents that are missing are made.
func (d *Draft) change(op, name string, do func(at int, base string) error) error {
	if err := checkName(op, name); err != nil {
		return err
	}
	if len(name) > maxName {
		return &fs.PathError{Op: op, Path: name[:64] + "…", Err: unix.ENAMETOOLONG}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrClosed}
	}
	dir, base := split(name)
	at, err := d.imply(dir)
	if err == nil {
		err = do(at, base)
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// replace is change for a do that needs name to be free.
func (d *Draft) replace(op, name string, do func(at int, base string) error) error {
	if name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return d.change(op, name, func(at int, base string) error {
		err := do(at, base)
		if err != unix.EEXIST {
			return err
		}
		if err := d.removeAt(at, base, name); err != nil {
			return err
		}
		return do(at, base)
	})
}

// imply returns a descriptor of the directory name, which is made if need be.
func (d *Draft) imply(name string) (int, error) {
	fd, err := d.fds.get(name)
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return fd, err
	}
	dir, base := split(name)
	at, err := d.imply(dir)
	if err != nil {
		return -1, err
	}
	switch err := unix.Mkdirat(at, base, 0o700); err {
	case nil:
		d.dirs[name] = newImplied()
		if err := d.journal.putDir(name); err != nil {
			return -1, err
		}
	case unix.EEXIST:
		kind, err := d.kind(at, base, name)
		if err != nil {
			return -1, err
		}
		if kind != whiteoutKind {
			return -1, fmt.Errorf("%s: %w", name, unix.ENOTDIR)
		}
		if err := d.unhide(at, base, name); err != nil {
			return -1, err
		}
	default:
		return -1, err
	}
	return d.fds.get(name)
}

// What is at a name of the draft, as far as changes are concerned.
type draftKind int

const (
	otherKind draftKind = iota
	dirKind
	whiteoutKind
)

func (d *Draft) kind(at int, base, name string) (draftKind, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return otherKind, err
	}
	switch r := d.records[name]; {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return dirKind, nil
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0, r != nil && r.Whiteout:
		return whiteoutKind, nil
	}
	return otherKind, nil
}

// removeAt removes name, whatever it is.
func (d *Draft) removeAt(at int, base, name string) error {
	err := unix.Unlinkat(at, base, 0)
	if err != unix.EISDIR {
		if err == nil {
			d.journal.removed()
			delete(d.records, name)
		}
		return err
	}
	d.journal.removed()
	d.fds.forget(name)
	gone := func(n string) bool { return beneath(n, name) }
	maps.DeleteFunc(d.records, func(n string, _ *record) bool { return gone(n) })
	maps.DeleteFunc(d.dirs, func(n string, _ *draftDir) bool { return gone(n) })
	return removeAll(filepath.Join(d.Path(), filepath.FromSlash(name)))
}

// recordOf returns the record of name, which is made if need be.
func (d *Draft) recordOf(name string) *record {
	r := d.records[name]
	if r == nil {
		r = new(record)
		d.records[name] = r
	}
	return r
}

// made is what is known of a file that is to be settled.
type made struct {
	now  bool // this process has just made it, so it has the owner for that
	mode uint32
}

// unknownMode is no mode.
const unknownMode = ^uint32(0)

// settle gives the file at name e's owner, mode and time, and records what the
// disk refuses.
func (d *Draft) settle(at int, base, name string, kind snapshot.Kind, e snapshot.Entry, was made) error {
	if e.UID < 0 || e.GID < 0 || e.UID >= math.MaxUint32 || e.GID >= math.MaxUint32 {
		return fmt.Errorf("owner %d:%d is out of range", e.UID, e.GID)
	}
	owner := [2]int{e.UID, e.GID}
	owned, err := d.chown(at, base, owner, was.now)
	if err != nil {
		return err
	}
	mode := e.Mode & 0o7777
	disk := mode
	if kind != snapshot.Symlink {
		if disk, err = d.chmod(at, base, kind, mode, owned, was.mode); err != nil {
			return err
		}
	}
	if r := d.records[name]; r != nil || !owned || disk != mode {
		r = d.recordOf(name)
		r.Owner, r.Mode = nil, nil
		if !owned {
			r.Owner = &owner
		}
		if disk != mode {
			r.Mode = &mode
		}
	}
	t, err := unix.TimeToTimespec(modTime(e))
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(at, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

// chown tells whether the file now belongs to owner.
func (d *Draft) chown(at int, base string, owner [2]int, made bool) (bool, error) {
	if made && owner == d.made {
		return true, nil
	}
	if d.refused[owner] {
		return false, nil
	}
	switch err := unix.Fchownat(at, base, owner[0], owner[1], unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
		return true, nil
	case unix.EPERM, unix.EINVAL, unix.EOVERFLOW: // the last two: no such user in this user namespace
		d.refused[owner] = true
		return false, nil
	default:
		return false, err
	}
}

// chmod sets the mode of anything but a link, which was, as far as it may, and
// returns what the mode is now.
func (d *Draft) chmod(at int, base string, kind snapshot.Kind, mode uint32, owned bool, was uint32) (uint32, error) {
	disk := mode
	if !owned {
		disk &^= unix.S_ISUID | unix.S_ISGID // that would make somebody else of its user
	}
	if !d.may.override { // we must still be able to read it, and to remove it
		disk |= 0o400
		if kind == snapshot.Dir {
			disk |= 0o700
		}
	}
	if disk == was {
		return disk, nil
	}
	if err := unix.Fchmodat(at, base, disk, 0); err != nil { // no link: no need for AT_SYMLINK_NOFOLLOW
		return 0, err
	}
	if disk&unix.S_ISGID != 0 && !d.may.setgid {
		// Of a group that we are not in, the kernel drops the bit and says nothing.
		var st unix.Stat_t
		if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, err
		}
		disk = st.Mode & 0o7777
	}
	return disk, nil
}

// modTime is e's time; the zero time is that of Unix.
func modTime(e snapshot.Entry) time.Time {
	if e.ModTime.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return e.ModTime.UTC()
}

// setXattrs replaces the image's extended attributes of name by want, and
// records those that the disk refuses.
func (d *Draft) setXattrs(at int, base, name string, want map[string]string) error {
	keys, err := listXattrs(at, base)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if _, ok := want[k]; ok || !belongs(k) {
			continue
		}
		if err := unix.Lremovexattr(procPath(at, base), k); err != nil && err != unix.ENODATA {
			return err
		}
	}
	if r := d.records[name]; r != nil {
		r.Xattrs = nil
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if !belongs(k) {
			continue
		}
		err := unix.Lsetxattr(procPath(at, base), k, []byte(want[k]), 0)
		switch {
		case err == nil:
		case err == unix.EPERM && strings.HasPrefix(k, "user."):
			// Linux has these on files and directories only: no image can mean it.
		case refusedXattr(err):
			r := d.recordOf(name)
			if r.Xattrs == nil {
				r.Xattrs = map[string]raw{}
			}
			r.Xattrs[k] = raw(want[k])
		default:
			return fmt.Errorf("set %s: %w", k, err)
		}
	}
	return nil
}

// refusedXattr tells errors that mean that the disk cannot hold an attribute, or
// that this process may not set it.
func refusedXattr(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTSUP) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE)
}

// finish settles the directories, and writes what belongs beside the files.
func (d *Draft) finish() error {
	var implied []string
	for _, name := range slices.Sorted(maps.Keys(d.dirs)) { // siblings together, for fds
		dir := d.dirs[name]
		parent, base := split(name)
		at, err := d.fds.get(parent)
		if err != nil {
			return &fs.PathError{Op: "settle", Path: name, Err: err}
		}
		if err := d.settle(at, base, name, snapshot.Dir, dir.entry, made{true, unknownMode}); err != nil {
			return &fs.PathError{Op: "settle", Path: name, Err: err}
		}
		if dir.implied {
			implied = append(implied, name)
			if r := d.records[name]; r != nil { // the layers below know better
				r.Owner, r.Mode = nil, nil
			}
		}
	}
	if err := writeRecords(filepath.Join(d.dir, "attrs"), d.records); err != nil {
		return err
	}
	if err := d.writeList(); err != nil {
		return err
	}
	return writeNames(filepath.Join(d.dir, "implied"), implied)
}
