package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// longestValue is the number of bytes in the longest string that fsconfig(2)
// takes.
const longestValue = 255

// ErrReadOnly reports an overlay that the kernel mounted read-only although it
// has an upper directory: the work directory could not be set up.
var ErrReadOnly = errors.New("overlay came up read-only: the kernel could not prepare its work directory")

// overlay makes a detached overlay mount. It refuses one that came up read-only,
// which the kernel does without an error.
func overlay(root string, options []string) (int, error) {
	plain, done, err := plainPaths(options)
	if err != nil {
		return -1, err
	}
	defer done()
	fd, err := filesystem("overlay", plain, 0)
	if errors.Is(err, unix.EINVAL) {
		// An old kernel, or something really is wrong.
		var lerr error
		if fd, lerr = legacyOverlay(root, options); lerr == nil {
			err = nil
		} else {
			err = fmt.Errorf("%w; and in the form of old kernels: %w", err, lerr)
		}
	}
	if err != nil {
		return -1, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("fstatfs", err)
	}
	if wantsWrite(options) && st.Flags&unix.ST_RDONLY != 0 {
		unix.Close(fd)
		return -1, ErrReadOnly
	}
	return fd, nil
}

// wantsWrite tells whether an overlay of these options is to be written to.
func wantsWrite(options []string) bool {
	upper := false
	for _, o := range options {
		if o == "ro" {
			return false
		}
		upper = upper || strings.HasPrefix(o, "upperdir=")
	}
	return upper
}

// plainPaths replaces paths that overlayfs would cut or unescape by paths of
// descriptors, which it resolves while it is configured. The caller must call
// done after that.
func plainPaths(options []string) (plain []string, done func(), err error) {
	var open []int
	done = func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if strings.HasPrefix(value, "/") && (len(value) > longestValue || strings.Contains(value, `\`)) {
			fd, err := unix.Open(value, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				done()
				return nil, nil, &os.PathError{Op: "open", Path: value, Err: err}
			}
			open = append(open, fd)
			o = key + "=" + procPath(fd)
		}
		plain = append(plain, o)
	}
	return plain, done, nil
}
