// Package mount performs the mounts that package snapshot describes as data, in
// the mount namespace of the calling thread:
//
//	err := mount.Private(func() error { // a thread and a namespace of their own
//		if err := mount.Do(root, tx.Mounts()); err != nil {
//			return err
//		}
//		work(root)
//		return mount.Undo(root)
//	})
//
// A mount is made detached, checked, and only then moved to its place, which is
// opened beneath the root first: no link inside an image leads out of it.
package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Do performs mounts beneath the directory root, in order, in the mount
// namespace of the calling thread, which the caller has locked and made private
// (see [Private]). Links in targets are followed inside the root. Every target
// must exist, except where an earlier mount of the same call hides what lies
// below it: there it is made. After an error nothing of the call stays mounted.
func Do(root string, mounts []snapshot.Mount) (err error) {
	var made []int
	defer func() {
		for _, fd := range slices.Backward(made) {
			if err != nil {
				err = errors.Join(err, detach(fd))
			}
			unix.Close(fd)
		}
	}()
	for _, m := range mounts {
		fd, err := one(root, m)
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
		}
		made = append(made, fd)
	}
	return nil
}

// Undo unmounts everything that is mounted on root and beneath it in the mount
// namespace of the calling thread, the last mount first. What is still in use
// is detached all the same, and the error says so: its files may still change.
func Undo(root string) error {
	root, err := filepath.Abs(root)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", root, err)
	}
	// Not /proc/self: that is the main thread, whose namespace is another one.
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return fmt.Errorf("unmount %s: %w", root, err)
	}
	defer f.Close()
	found, err := mountinfo.GetMountsFromReader(f, mountinfo.PrefixFilter(root))
	if err != nil {
		return fmt.Errorf("unmount %s: %w", root, err)
	}
	var errs []error
	for _, m := range slices.Backward(found) {
		err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = errors.Join(err, unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// one performs m and returns a descriptor of the mount, which holds it.
func one(root string, m snapshot.Mount) (fd int, err error) {
	dir := true
	switch m.Type {
	case "overlay":
		fd, err = overlay(root, m.Options)
	case "tmpfs":
		fd, err = filesystem(m.Type, m.Options, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case "bind":
		fd, dir, err = bind(m.Source, m.Options)
	default:
		return -1, fmt.Errorf("unknown type of mount %q", m.Type)
	}
	if err != nil {
		return -1, err
	}
	if err := attach(fd, root, m.Target, dir); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// attach moves the detached mount fd to target inside root.
func attach(fd int, root, target string, dir bool) error {
	at, err := openTarget(root, target, dir)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	err = unix.MoveMount(fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// detach takes the mount fd out of the namespace. It is unmounted when its last
// user is gone, so the caller should close fd next.
func detach(fd int) error {
	return os.NewSyscallError("umount", unix.Unmount(procPath(fd), unix.MNT_DETACH))
}

// bind makes a detached mount of source and tells whether that is a directory.
func bind(source string, options []string) (fd int, dir bool, err error) {
	flags, attr := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), uint64(0)
	for _, o := range options {
		switch o {
		case "ro":
			attr |= unix.MOUNT_ATTR_RDONLY
		case "rbind":
			flags |= unix.AT_RECURSIVE
		default:
			return -1, false, fmt.Errorf("unknown option %q", o)
		}
	}
	fd, err = unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return -1, false, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if attr != 0 {
		at := unix.AT_EMPTY_PATH | flags&unix.AT_RECURSIVE
		if err := unix.MountSetattr(fd, "", at, &unix.MountAttr{Attr_set: attr}); err != nil {
			return -1, false, os.NewSyscallError("mount_setattr", err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, false, os.NewSyscallError("fstat", err)
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// filesystem makes a detached mount of a new filesystem. Options are given to it
// one by one in their order, but "ro", which belongs to the mount.
func filesystem(fstype string, options []string, attr int) (int, error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigSetString(ctx, "source", "lamina"); err != nil {
		return -1, configError(ctx, "source", err)
	}
	for _, o := range options {
		key, value, valued := strings.Cut(o, "=")
		switch {
		case o == "ro":
			attr |= unix.MOUNT_ATTR_RDONLY
			continue
		case valued:
			err = unix.FsconfigSetString(ctx, key, value)
		default:
			err = unix.FsconfigSetFlag(ctx, key)
		}
		if err != nil {
			return -1, configError(ctx, "option "+o, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, configError(ctx, "create", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, configError(ctx, "fsmount", err)
	}
	return fd, nil
}

// configError adds to err what the kernel wrote about it: each message is one
// read of the context, "e overlay: …" for an error.
func configError(ctx int, what string, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for len(said) < 8 {
		n, rerr := unix.Read(ctx, buf)
		if rerr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
	}
	if len(said) == 0 {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w (%s)", what, err, strings.Join(said, "; "))
}

func procPath(fd int) string { return fmt.Sprintf("/proc/thread-self/fd/%d", fd) }
