package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/mount"
)

// Supported tells why this process cannot use overlays whose layers are beneath
// the directory dir; nil means that it can. It finds out by doing what a build
// does, in a namespace that nobody sees, and leaves nothing behind.
func Supported(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("overlay: %w", &os.PathError{Op: "statfs", Path: dir, Err: err})
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("overlay: %s is on an overlay itself, as everything in a container is that is not in a volume", dir)
	}
	probe, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if err := errors.Join(try(probe), os.RemoveAll(probe)); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// try uses an overlay in the empty directory dir.
func try(dir string) error {
	for _, name := range []string{"lower", "upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	lower := filepath.Join(dir, "lower")
	if err := unix.Lsetxattr(lower, opaqueXattr, []byte("y"), 0); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("needs root outside of any user namespace: cannot set %s: %w", opaqueXattr, err)
		}
		return fmt.Errorf("the filesystem of %s does not keep extended attributes: %w", filepath.Dir(dir), err)
	}
	if err := mknodWhiteout(filepath.Join(lower, "whiteout")); err != nil {
		return fmt.Errorf("cannot make device files: %w", err)
	}
	if err := os.WriteFile(filepath.Join(lower, "file"), nil, 0o644); err != nil {
		return err
	}
	err := mount.Private(func() error { return use(dir) })
	var call *os.SyscallError
	if errors.As(err, &call) && call.Syscall == "unshare" {
		return fmt.Errorf("cannot have a mount namespace: %w", err)
	}
	return err
}

// use mounts the overlay, deletes a file of the lower directory and looks
// whether the upper one says so.
func use(dir string) error {
	root := filepath.Join(dir, "root")
	err := mount.Do(root, []snapshot.Mount{{Type: "overlay", Target: "/", Options: []string{
		"redirect_dir=off", "metacopy=off", "index=off", "lowerdir+=" + filepath.Join(dir, "lower"),
		"upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work"), "volatile",
	}}})
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(root, "whiteout")); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errors.New("the kernel does not hide whiteouts"), err, mount.Undo(root))
	}
	if err := errors.Join(os.Remove(filepath.Join(root, "file")), mount.Undo(root)); err != nil {
		return err
	}
	fi, err := os.Lstat(filepath.Join(dir, "upper", "file"))
	if err != nil {
		return fmt.Errorf("the kernel kept no whiteout: %w", err)
	}
	if fi.Mode().Type() != fs.ModeDevice|fs.ModeCharDevice {
		return fmt.Errorf("the kernel kept a whiteout of type %v, not a device", fi.Mode().Type())
	}
	return nil
}
