package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// nonblock keeps the opening of what turned out to be a pipe from waiting.
const nonblock = unix.O_NONBLOCK

// maker makes the entries of a tree at data, where nothing is yet and nobody else
// looks. Nothing is ever written through a link: links are made when everything
// else is there, and a name can only be in a directory that was made before.
type maker struct {
	data string
	dirs []Entry // whose attributes are set at the end
	root bool    // this process may give files away
	buf  []byte
}

func newMaker(data string) *maker {
	return &maker{data: data, root: os.Geteuid() == 0, buf: make([]byte, 256<<10)}
}

// path is where an entry is. All entries were checked.
func (m *maker) path(name string) string { return filepath.Join(m.data, name) }

// mkdir makes a directory, which belongs to this process alone until finish.
func (m *maker) mkdir(e Entry) error {
	if err := unix.Mkdir(m.path(e.Path), 0o700); err != nil {
		return &fs.PathError{Op: "mkdir", Path: e.Path, Err: err}
	}
	m.dirs = append(m.dirs, e)
	return nil
}

// file makes a file of the bytes of r.
func (m *maker) file(ctx context.Context, e Entry, r io.Reader) error {
	fd, err := unix.Open(m.path(e.Path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: e.Path, Err: err}
	}
	f := os.NewFile(uintptr(fd), e.Path)
	if r != nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, &contextReader{ctx, r}, m.buf)
	}
	if err == nil {
		err = m.attributes(fd, e, e.Mode&0o1777) // no powers; see Tree
	}
	return errors.Join(err, f.Close())
}

// again makes another file with the content of first.
func (m *maker) again(ctx context.Context, first, e Entry) error {
	f, err := os.Open(m.path(first.Path))
	if err != nil {
		return err
	}
	defer f.Close()
	return m.file(ctx, e, f)
}

// link makes another name of a file.
func (m *maker) link(e Entry) error {
	return os.Link(m.path(e.Target), m.path(e.Path))
}

func (m *maker) symlink(e Entry) error {
	name := m.path(e.Path)
	if err := os.Symlink(e.Target, name); err != nil {
		return err
	}
	if m.root {
		if err := unix.Lchown(name, e.UID, e.GID); err != nil {
			return &fs.PathError{Op: "chown", Path: e.Path, Err: err}
		}
	}
	return utimes(unix.AT_FDCWD, name, e.Time)
}

// attributes sets those of an open file or directory.
func (m *maker) attributes(fd int, e Entry, mode uint32) error {
	wrap := func(op string, err error) error { return &fs.PathError{Op: op, Path: e.Path, Err: err} }
	if m.root && (e.UID != 0 || e.GID != 0) {
		if err := unix.Fchown(fd, e.UID, e.GID); err != nil {
			return wrap("chown", err)
		}
	}
	for k, v := range e.Xattrs {
		if err := unix.Fsetxattr(fd, k, []byte(v), 0); err != nil && err != unix.ENOTSUP {
			return wrap("setxattr", err)
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return wrap("chmod", err)
	}
	return utimes(fd, "", e.Time)
}

// utimes sets the time of the open file at, or of the link name.
func utimes(at int, name string, ns int64) error {
	t, err := unix.TimeToTimespec(time.Unix(0, ns))
	if err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}
	if name == "" {
		name = fmt.Sprintf("/proc/self/fd/%d", at)
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, times, 0)
	}
	return unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// finish gives the directories their attributes, the inner before the outer.
func (m *maker) finish() error {
	for _, e := range slices.Backward(m.dirs) {
		fd, err := unix.Open(m.path(e.Path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: e.Path, Err: err}
		}
		err = m.attributes(fd, e, e.Mode)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
