package fileset

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// capability is the one extended attribute that a build context contributes:
// user.* and the labels of this machine mean nothing in an image.
const capability = "security.capability"

// HostTree is a directory of this machine as a [snapshot.Tree]. No name can lead
// out of it, whatever others do to the directory meanwhile. It is live: what it
// says may change between two calls.
type HostTree struct {
	root int // descriptor, opened with O_PATH
	path string
	// noOpenat2 opens names one component at a time. Old kernels and some
	// sandboxes know no openat2(2).
	noOpenat2 bool
}

var _ snapshot.Tree = (*HostTree)(nil)

// Host opens the directory root. The caller must close the tree.
func Host(root string) (*HostTree, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(abs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	h := &HostTree{root: fd, path: abs}
	h.noOpenat2 = !h.hasOpenat2()
	return h, nil
}

func (h *HostTree) hasOpenat2() bool {
	fd, err := h.openat2(".", unix.O_PATH)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// Path returns the absolute path of the tree's root.
func (h *HostTree) Path() string { return h.path }

// Close releases the tree, which must not be in use any more.
func (h *HostTree) Close() error { return unix.Close(h.root) }

// Lstat implements [snapshot.Tree].
func (h *HostTree) Lstat(name string) (snapshot.Entry, error) {
	fd, err := h.open("lstat", name, unix.O_PATH)
	if err != nil {
		return snapshot.Entry{}, err
	}
	defer unix.Close(fd)
	e, err := entryAt(fd, "", path.Base(name))
	if err != nil {
		return e, pathError("lstat", name, err)
	}
	return e, nil
}

// ReadDir implements [snapshot.Tree].
func (h *HostTree) ReadDir(name string) ([]snapshot.Entry, error) {
	fd, err := h.open("readdir", name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	slices.Sort(names)
	entries := make([]snapshot.Entry, 0, len(names))
	for _, n := range names {
		e, err := entryAt(fd, n, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, pathError("lstat", path.Join(name, n), err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Open implements [snapshot.Tree].
func (h *HostTree) Open(name string) (io.ReadCloser, error) {
	f, err := h.openRegular(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (h *HostTree) openRegular(name string) (*hostFile, error) {
	// O_NONBLOCK, because what was a regular file when it was listed may be a
	// fifo by now. It means nothing to a regular file.
	fd, err := h.open("open", name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return nil, pathError("open", name, err)
	}
	return &hostFile{fd: fd, name: name, left: st.Size}, nil
}

// Xattrs implements [snapshot.Tree]. It knows of security.capability only, which
// is all that a build context contributes.
func (h *HostTree) Xattrs(name string) (map[string]string, error) {
	e, err := h.Lstat(name)
	if err != nil || e.Kind != snapshot.File {
		return nil, err
	}
	f, xattrs, err := h.openWithXattrs(name)
	if err != nil {
		return nil, err
	}
	return xattrs, f.Close()
}

// openWithXattrs is Open and Xattrs in fewer system calls.
func (h *HostTree) openWithXattrs(name string) (io.ReadCloser, map[string]string, error) {
	f, err := h.openRegular(name)
	if err != nil {
		return nil, nil, err
	}
	buf := make([]byte, 64) // a capability has 20 or 24 bytes
	n, err := unix.Fgetxattr(f.fd, capability, buf)
	switch {
	case err == unix.ENODATA, err == unix.ENOTSUP:
		return f, nil, nil
	case err != nil:
		f.Close()
		return nil, nil, pathError("getxattr", name, err)
	}
	return f, map[string]string{capability: string(buf[:n])}, nil
}

// hostFile is an open regular file. It does without what an os.File has for
// files that can block, which would cost as much as reading a small one.
type hostFile struct {
	fd   int
	name string
	left int64 // bytes up to the size that the file had when it was opened
}

// Read ends at the size that the file had, without asking whether there is more. A
// file that has grown since, or says that it is empty as those of proc do, is read
// to its end.
func (f *hostFile) Read(p []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(f.fd, p) })
	switch {
	case err != nil:
		return 0, pathError("read", f.name, err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	f.left -= int64(n)
	if f.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (f *hostFile) Close() error {
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// open opens name beneath the root without following any link.
func (h *HostTree) open(op, name string, flags int) (int, error) {
	opener := h.openat2
	if h.noOpenat2 {
		opener = h.openByStep
	}
	fd, err := retry(func() (int, error) { return opener(name, flags) })
	if err != nil {
		return -1, pathError(op, name, err)
	}
	return fd, nil
}

func (h *HostTree) openat2(name string, flags int) (int, error) {
	return unix.Openat2(h.root, name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// openByStep does what openat2 does, one component at a time: each is opened
// relative to the last and refused if it is a link.
func (h *HostTree) openByStep(name string, flags int) (int, error) {
	dir, rest := h.root, name
	for {
		first, tail, more := strings.Cut(rest, "/")
		if first == ".." || first == "" {
			return -1, unix.ENOENT
		}
		step := flags
		if more {
			step = unix.O_PATH | unix.O_DIRECTORY
		}
		fd, err := unix.Openat(dir, first, step|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if dir != h.root {
			unix.Close(dir)
		}
		if err != nil || !more {
			return fd, err
		}
		dir, rest = fd, tail
	}
}

// retry repeats a call that a signal interrupted, or an openat2 that a rename
// somewhere in the filesystem left unsure whether it is still beneath its root.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR && err != unix.EAGAIN {
			return n, err
		}
	}
}

// pathError names the file that an error is about. A name that passes through a
// link or a file does not exist, by the definition of a tree.
func pathError(op, name string, err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EXDEV) {
		err = fs.ErrNotExist
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// entryAt describes the file name in the directory dir, or dir itself if name is
// empty.
func entryAt(dir int, name, base string) (snapshot.Entry, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	if err != nil {
		return snapshot.Entry{}, err
	}
	e := entryOf(base, &st)
	if e.Kind == snapshot.Symlink {
		e.Link, err = readlinkAt(dir, name)
	}
	return e, err
}

func readlinkAt(dir int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil || n < size {
			return string(buf[:max(n, 0)]), err
		}
	}
}
