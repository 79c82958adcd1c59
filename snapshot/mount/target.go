package mount

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// retries bounds how often a path is resolved again because somebody renamed
// directories meanwhile, which openat2(2) reports as EAGAIN.
const retries = 128

// openTarget opens the place inside root that something is to be mounted on.
// The descriptor is good for nothing but that (O_PATH). A missing place is made
// if it would lie on another mount than the root's own.
func openTarget(root, target string, dir bool) (int, error) {
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(at)
	fd, err := openIn(at, target)
	if errors.Is(err, unix.ENOENT) {
		if err := makeTarget(at, target, dir); err != nil {
			return -1, err
		}
		fd, err = openIn(at, target)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open mount target", Path: target, Err: err}
	}
	return fd, nil
}

// openIn opens name as a process would whose root is the directory root.
func openIn(root int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for i := 0; ; i++ {
		fd, err := unix.Openat2(root, name, &how)
		if err == unix.EINTR || err == unix.EAGAIN && i < retries {
			continue
		}
		return fd, err
	}
}

// makeTarget makes target, an empty directory or file, and its parents. It
// refuses to on the root's own mount: that is the snapshot, where whoever made
// the root knows how to make targets that leave no trace.
func makeTarget(root int, target string, dir bool) error {
	missing := &os.PathError{Op: "open mount target", Path: target, Err: unix.ENOENT}
	target = path.Clean("/" + target)
	above := path.Dir(target)
	fd, err := openIn(root, above)
	for errors.Is(err, unix.ENOENT) && above != "/" {
		above = path.Dir(above)
		fd, err = openIn(root, above)
	}
	if err != nil {
		return missing
	}
	defer func() { unix.Close(fd) }() // whichever it is by then
	if same, err := sameMount(root, fd); err != nil || same {
		return errors.Join(missing, err)
	}
	parts := strings.Split(strings.TrimPrefix(target[len(above):], "/"), "/")
	for i, part := range parts {
		if i == len(parts)-1 && !dir {
			return makeFile(fd, part)
		}
		if err := unix.Mkdirat(fd, part, 0o755); err != nil {
			return &os.PathError{Op: "mkdir", Path: target, Err: err}
		}
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: target, Err: err}
		}
		unix.Close(fd)
		fd = next
	}
	return nil
}

func makeFile(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

// sameMount tells whether a and b are on one mount.
func sameMount(a, b int) (bool, error) {
	var sa, sb unix.Statx_t
	for fd, st := range map[int]*unix.Statx_t{a: &sa, b: &sb} {
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, st); err != nil {
			return false, os.NewSyscallError("statx", err)
		}
	}
	return sa.Mnt_id == sb.Mnt_id, nil
}
