package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// legacyOverlay does what overlay does on kernels before Linux 6.7, which know
// no "lowerdir+": all layers must go into one string, and that into one page. It
// mounts on root for a moment, as part does, because mount(2) does not know
// detached mounts.
func legacyOverlay(root string, options []string) (int, error) {
	data, flags, done, err := legacyOptions(options)
	if err != nil {
		return -1, err
	}
	defer done()
	if len(data) >= os.Getpagesize() {
		return -1, fmt.Errorf("%d layers are too many for this kernel; Linux 6.7 takes more", strings.Count(data, ":")+1)
	}
	if err := unix.Mount("lamina", root, "overlay", flags, data); err != nil {
		return -1, os.NewSyscallError("mount", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		err = os.NewSyscallError("open_tree", err)
	}
	if uerr := unix.Unmount(root, unix.MNT_DETACH); uerr != nil && err == nil {
		unix.Close(fd)
		err = os.NewSyscallError("umount", uerr)
	}
	return fd, err
}

// legacyOptions makes of options the string for mount(2). Directories are named
// by descriptors, which is short and free of the characters that the kernel
// takes for separators. The caller must call done after the mount.
func legacyOptions(options []string) (data string, flags uintptr, done func(), err error) {
	var open []int
	done = func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}
	var lower, other []string
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if o == "ro" {
			flags |= unix.MS_RDONLY
			continue
		}
		if !strings.HasPrefix(value, "/") {
			other = append(other, o)
			continue
		}
		fd, err := unix.Open(value, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			done()
			return "", 0, nil, &os.PathError{Op: "open", Path: value, Err: err}
		}
		open = append(open, fd)
		if key == "lowerdir+" {
			lower = append(lower, procPath(fd))
		} else {
			other = append(other, key+"="+procPath(fd))
		}
	}
	return strings.Join(append(other, "lowerdir="+strings.Join(lower, ":")), ","), flags, done, nil
}
