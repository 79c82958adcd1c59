package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// part replaces the detached mount whole by one of the file or directory sub in
// it, and tells whether that is a directory. It closes whole in any case.
//
// Only since Linux 6.15 can a detached mount be cloned. So whole is attached for
// a moment, over the root, where there is room for it whatever sub is; nothing
// else looks at the root in this namespace meanwhile.
func part(whole int, root, sub string) (fd int, dir bool, err error) {
	defer unix.Close(whole)
	if err := attach(whole, root, "/", true); err != nil {
		return -1, false, err
	}
	defer func() {
		if derr := detach(whole); derr != nil && err == nil {
			unix.Close(fd)
			fd, err = -1, derr
		}
	}()
	at, err := unix.Open(procPath(whole), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false, os.NewSyscallError("open", err)
	}
	defer unix.Close(at)
	from, err := openIn(at, sub)
	if err != nil {
		return -1, false, &os.PathError{Op: "open", Path: sub, Err: err}
	}
	defer unix.Close(from)
	fd, err = unix.OpenTree(from, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, false, fmt.Errorf("open_tree %s: %w", sub, err)
	}
	if dir, err = isDir(fd); err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, dir, nil
}

func isDir(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
