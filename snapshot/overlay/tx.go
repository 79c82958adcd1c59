package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// opaqueXattr marks a directory that hides the ones below it.
const opaqueXattr = "trusted.overlay.opaque"

// tx is a root with an upper directory. It implements [snapshot.Tx].
type tx struct {
	*root
	pool *layer.Pool
}

// prepare makes the upper directory, whose attributes are the root directory's,
// and the directory that the kernel works in.
func (t *tx) prepare() error {
	if err := os.Mkdir(t.path("work"), 0o700); err != nil {
		return err
	}
	upper := t.path("upper")
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	return imitate(upper, t.stack, ".")
}

// Mounts implements [snapshot.Tx]. The mount is volatile: it skips writing to
// the disk what would be thrown away after a crash.
func (t *tx) Mounts() []snapshot.Mount {
	return t.mount("upperdir="+t.path("upper"), "workdir="+t.path("work"), "volatile")
}

// Commit implements [snapshot.Tx].
func (t *tx) Commit(ctx context.Context, id snapshot.ID) error {
	err := settle(ctx, t.path("upper"), ".", t.stack)
	if err == nil {
		err = t.pool.Adopt(t.path("upper"), id)
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	return nil
}

// settle makes of the directory name of an upper directory what a layer says of
// it. It removes the marks that hide nothing of below, because the kernel sets
// some ahead of time and others hid a patch, and sockets, which mean nothing
// without their process. A nil tree has no files.
func settle(ctx context.Context, upper, name string, below snapshot.Tree) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	full := filepath.Join(upper, name)
	under, err := kind(below, name)
	if err != nil {
		return err
	}
	if under != snapshot.Dir {
		below = nil
	}
	opaque, err := isOpaque(full)
	if err != nil {
		return err
	}
	if opaque && below == nil {
		if err := unix.Lremovexattr(full, opaqueXattr); err != nil {
			return &os.PathError{Op: "removexattr", Path: full, Err: err}
		}
	}
	if opaque {
		below = nil // for all that is in it
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		return err
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		switch e.Type() {
		case fs.ModeDir:
			err = settle(ctx, upper, child, below)
		case fs.ModeSocket, fs.ModeDevice | fs.ModeCharDevice:
			err = settleFile(upper, child, below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nothing is the kind of a file that is not there.
const nothing = snapshot.Kind(255)

// kind returns what name is in t.
func kind(t snapshot.Tree, name string) (snapshot.Kind, error) {
	if t == nil {
		return nothing, nil
	}
	e, err := t.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nothing, nil
	}
	return e.Kind, err
}

// settleFile removes name if it is a whiteout of nothing, and puts a whiteout, if
// one is needed, in the place of a socket. Its directory keeps its time.
func settleFile(upper, name string, below snapshot.Tree) error {
	full := filepath.Join(upper, name)
	var st, dir unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: full, Err: err}
	}
	socket := st.Mode&unix.S_IFMT == unix.S_IFSOCK
	if !socket && st.Rdev != 0 {
		return nil
	}
	under, err := kind(below, name)
	if err != nil || !socket && under != nothing {
		return err
	}
	if err := unix.Lstat(filepath.Dir(full), &dir); err != nil {
		return &os.PathError{Op: "lstat", Path: filepath.Dir(full), Err: err}
	}
	if err := os.Remove(full); err != nil {
		return err
	}
	if under != nothing {
		if err := mknodWhiteout(full); err != nil {
			return err
		}
	}
	return setTimes(filepath.Dir(full), dir.Mtim)
}

func isOpaque(dir string) (bool, error) {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, opaqueXattr, value[:])
	if errors.Is(err, unix.ENODATA) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "getxattr", Path: dir, Err: err}
	}
	return n == 1 && value[0] == 'y', nil
}
