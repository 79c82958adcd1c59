package layer

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// maxName is the longest name in bytes that a draft accepts: a process could
// not use a longer one (PATH_MAX).
const maxName = 4095

// checkName reports names that are not clean and relative.
func checkName(op, name string) error {
	if name == "." {
		return nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
		}
	}
	return nil
}

// split returns the directory that name is in, and its name there.
func split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

// join is path.Join for names that are clean already.
func join(dir, base string) string {
	switch {
	case dir == ".":
		return base
	case base == ".":
		return dir
	}
	return dir + "/" + base
}

// openBeneath opens name, which is clean, beneath the directory dir and follows
// no symbolic link in it. A link on the way is ELOOP. With O_PATH, name itself
// may be a link, which is opened as such.
func openBeneath(dir int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch err {
		case unix.EINTR:
			continue
		case unix.ENOSYS, unix.EPERM, unix.EAGAIN, unix.ENAMETOOLONG:
			// No such system call, or a filter that forbids it, or a name too long for one call.
			return walkBeneath(dir, name, flags)
		}
		return fd, err
	}
}

// walkBeneath is openBeneath one component at a time.
func walkBeneath(dir int, name string, flags int) (int, error) {
	at := dir
	for {
		part, rest, more := strings.Cut(name, "/")
		how := flags
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := openat(at, part, how, 0)
		if err == unix.ENOTDIR && more && isLink(at, part) {
			err = unix.ELOOP
		}
		if at != dir {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, name = fd, rest
	}
}

// openDirBeneath opens the directory name for use as the base of other calls. A
// link is ELOOP, anything else that is no directory ENOTDIR.
func openDirBeneath(dir int, name string) (int, error) {
	fd, err := openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOTDIR {
		return fd, err
	}
	// O_DIRECTORY refuses a link at the end before RESOLVE_NO_SYMLINKS does.
	if fd, err := openBeneath(dir, name, unix.O_PATH); err == nil {
		defer unix.Close(fd)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return -1, unix.ELOOP
		}
	}
	return -1, unix.ENOTDIR
}

func isLink(dir int, base string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// readlinkat returns the target of the link base in dir, or of dir itself, which
// is an O_PATH descriptor, if base is empty.
func readlinkat(dir int, base string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, base, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// missing turns the reasons for which a tree does not have a name into
// fs.ErrNotExist, and adds the name to any error.
func missing(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG) {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
