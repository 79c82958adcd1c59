package dir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// copyStep is after how many bytes of a file the context is looked at.
const copyStep = 64 << 20

func (w *writer) file(dir *os.File, name string, e snapshot.Entry) error {
	r, err := w.tree.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	fd, err := unix.Openat(int(dir.Fd()), e.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return failed("create", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	for err == nil {
		if err = w.ctx.Err(); err == nil {
			_, err = io.CopyN(f, r, copyStep) // by the kernel, where both are files
		}
	}
	if errors.Is(err, io.EOF) {
		err = w.attributes(f, name, e)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// attributes sets what a file or directory that is open can have. The order
// matters: a change of owner takes setuid bits and capabilities away.
func (w *writer) attributes(f *os.File, name string, e snapshot.Entry) error {
	fd := int(f.Fd())
	if w.owner {
		if err := w.tolerate(unix.Fchown(fd, e.UID, e.GID), "owner", name); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return failed("chmod", name, err)
	}
	err := w.xattrs(name, func(key string, value []byte) error { return unix.Fsetxattr(fd, key, value, 0) })
	if err != nil {
		return err
	}
	tv := w.times(e)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), tv, 0); err != nil {
		return failed("set times", name, err)
	}
	return nil
}

func (w *writer) symlink(dir *os.File, name string, e snapshot.Entry) error {
	if err := unix.Symlinkat(e.Link, int(dir.Fd()), e.Name); err != nil {
		return failed("symlink", name, err)
	}
	return w.closedAttributes(dir, name, e)
}

// special makes a device or a named pipe.
func (w *writer) special(dir *os.File, name string, e snapshot.Entry) error {
	types := map[snapshot.Kind]uint32{
		snapshot.CharDevice:  unix.S_IFCHR,
		snapshot.BlockDevice: unix.S_IFBLK,
		snapshot.Fifo:        unix.S_IFIFO,
	}
	kind, ok := types[e.Kind]
	if !ok {
		return fmt.Errorf("%s: unknown kind of file %d", name, e.Kind)
	}
	err := unix.Mknodat(int(dir.Fd()), e.Name, kind|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	if e.Kind != snapshot.Fifo && errors.Is(err, unix.EPERM) {
		w.log.Warn("device left out", "path", name, "error", err)
		return nil
	}
	if err != nil {
		return failed("mknod", name, err)
	}
	// An open by path only, without the device's driver, and never of a link.
	fd, err := unix.Openat(int(dir.Fd()), e.Name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", name, err)
	}
	defer unix.Close(fd)
	if err := w.closedAttributes(dir, name, e); err != nil {
		return err
	}
	if err := unix.Chmod(procPath(fd), e.Mode); err != nil {
		return failed("chmod", name, err)
	}
	return nil
}

// closedAttributes sets what something that is not open can have without
// following a link.
func (w *writer) closedAttributes(dir *os.File, name string, e snapshot.Entry) error {
	fd := int(dir.Fd())
	if w.owner {
		err := unix.Fchownat(fd, e.Name, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW)
		if err := w.tolerate(err, "owner", name); err != nil {
			return err
		}
	}
	err := w.xattrs(name, func(key string, value []byte) error {
		return unix.Lsetxattr(procPath(fd)+"/"+e.Name, key, value, 0)
	})
	if err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(fd, e.Name, w.times(e), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed("set times", name, err)
	}
	return nil
}

func (w *writer) xattrs(name string, set func(key string, value []byte) error) error {
	all, err := w.tree.Xattrs(name)
	if err != nil {
		return err
	}
	for key, value := range all {
		if err := w.tolerate(set(key, []byte(value)), "attribute "+key, name); err != nil {
			return err
		}
	}
	return nil
}

// tolerate passes errors but those that say that this user, or this filesystem,
// cannot have such a thing.
func (w *writer) tolerate(err error, what, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		w.log.Warn(what+" left out", "path", name, "error", err)
		return nil
	}
	return failed("set "+what, name, err)
}

// times are the access and modification times of e.
func (w *writer) times(e snapshot.Entry) []unix.Timespec {
	t := e.ModTime
	if w.epoch != nil {
		t = *w.epoch
	}
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ts := unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	return []unix.Timespec{ts, ts}
}

// procPath is a name for an open file, of which nobody can change what it means.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
