package runner

import (
	"errors"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// makeOwned makes the directory dir, and what is missing above it, in the root
// filesystem at root. What it makes belongs to uid:gid, and what is there stays as
// it is.
func makeOwned(root, dir string, uid, gid int) error {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(fd)
	return makeOwnedIn(fd, path.Clean("/"+dir), uid, gid)
}

func makeOwnedIn(root int, dir string, uid, gid int) error {
	there, err := openInRoot(root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		return unix.Close(there)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := makeOwnedIn(root, path.Dir(dir), uid, gid); err != nil {
		return err
	}
	above, err := openInRoot(root, path.Dir(dir), unix.O_PATH)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path.Dir(dir), Err: err}
	}
	defer unix.Close(above)
	name := path.Base(dir)
	err = unix.Mkdirat(above, name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil // a link to nothing
	}
	if err == nil {
		err = unix.Fchownat(above, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = unix.Fchmodat(above, name, 0o755, 0) // whatever the umask is
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: dir, Err: err}
	}
	return nil
}
