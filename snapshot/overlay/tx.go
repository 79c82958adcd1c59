package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	implied, err := t.settle(ctx)
	if err == nil {
		err = t.pool.Adopt(t.path("upper"), id, implied...)
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	return nil
}

// settle makes of the upper directory what a layer says, and returns the
// directories that it only implies: the root, unless that was changed.
func (t *tx) settle(ctx context.Context) ([]string, error) {
	upper := t.path("upper")
	if err := t.keep(upper); err != nil {
		return nil, err
	}
	if _, err := settle(ctx, upper, ".", t.stack); err != nil {
		return nil, err
	}
	if same, err := unchanged(upper, ".", t.stack); !same || err != nil {
		return nil, err
	}
	return []string{"."}, nil
}

// keep puts the stubs that are to be kept into the upper directory.
func (t *tx) keep(upper string) error {
	for _, s := range t.kept {
		if err := t.raise(upper, path.Dir(s.Name)); err != nil {
			return err
		}
		err := makeStub(filepath.Join(upper, s.Name), s.Dir)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keep /%s: %w", s.Name, err)
		}
	}
	return nil
}

// raise makes sure that the upper directory has the directory name, which is
// there already or in the stack.
func (t *tx) raise(upper, name string) error {
	full := filepath.Join(upper, name)
	if _, err := os.Lstat(full); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.raise(upper, path.Dir(name)); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(full, 0o700), imitate(full, t.stack, name))
}

// settle makes of the directory name of an upper directory what a layer says of
// it, and tells whether it still holds anything. It removes
//
//   - what is below anyway: the kernel brings up whatever is opened for writing,
//     linked or renamed, and its parents;
//   - the marks that hide nothing of below, because the kernel sets some ahead of
//     time and others hid a patch;
//   - sockets, which mean nothing without their process.
//
// A nil tree has no files.
func settle(ctx context.Context, upper, name string, below snapshot.Tree) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	full := filepath.Join(upper, name)
	under, err := kind(below, name)
	if err != nil {
		return false, err
	}
	if under != snapshot.Dir {
		below = nil
	}
	opaque, err := isOpaque(full)
	if err != nil {
		return false, err
	}
	if opaque && below == nil {
		if err := unix.Lremovexattr(full, opaqueXattr); err != nil {
			return false, &os.PathError{Op: "removexattr", Path: full, Err: err}
		}
	}
	holds := opaque && below != nil
	if opaque {
		below = nil // for all that is in it
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return false, &os.PathError{Op: "lstat", Path: full, Err: err}
	}
	removed := false
	for _, e := range entries {
		useless, err := settleEntry(ctx, upper, path.Join(name, e.Name()), e.Type(), below)
		if err != nil {
			return false, err
		}
		if !useless {
			holds = true
			continue
		}
		if err := os.Remove(filepath.Join(full, e.Name())); err != nil {
			return false, err
		}
		removed = true
	}
	if removed {
		err = setTimes(full, st.Mtim)
	}
	return holds, err
}

// settleEntry settles one entry of a directory, and tells whether it is useless.
func settleEntry(ctx context.Context, upper, name string, mode fs.FileMode, below snapshot.Tree) (bool, error) {
	switch mode {
	case fs.ModeDir:
		if holds, err := settle(ctx, upper, name, below); holds || err != nil {
			return false, err
		}
	case fs.ModeSocket, fs.ModeDevice | fs.ModeCharDevice:
		if done, useless, err := settleMark(upper, name, below); done || err != nil {
			return useless, err
		}
	}
	return unchanged(upper, name, below)
}

// unchanged tells whether what is at name in an upper directory is below anyway.
func unchanged(upper, name string, below snapshot.Tree) (bool, error) {
	if under, err := kind(below, name); under == nothing || err != nil {
		return false, err
	}
	full := filepath.Join(upper, name)
	e, xattrs, err := layer.Describe(full)
	if err != nil {
		return false, err
	}
	open := func() (io.ReadCloser, error) { return os.Open(full) }
	return snapshot.Unchanged(below, name, e, xattrs, open)
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

// settleMark settles a socket or a character device. It tells whether that is all
// there is to do, and whether name is useless then: a whiteout is if it hides
// nothing. In the place of a socket it puts a whiteout, if one is needed.
func settleMark(upper, name string, below snapshot.Tree) (done, useless bool, err error) {
	full := filepath.Join(upper, name)
	var st, dir unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return false, false, &os.PathError{Op: "lstat", Path: full, Err: err}
	}
	socket := st.Mode&unix.S_IFMT == unix.S_IFSOCK
	if !socket && st.Rdev != 0 {
		return false, false, nil
	}
	under, err := kind(below, name)
	if err != nil || under == nothing || !socket {
		return true, under == nothing, err
	}
	if err := unix.Lstat(filepath.Dir(full), &dir); err != nil {
		return false, false, &os.PathError{Op: "lstat", Path: filepath.Dir(full), Err: err}
	}
	if err := errors.Join(os.Remove(full), mknodWhiteout(full)); err != nil {
		return false, false, err
	}
	return true, false, setTimes(filepath.Dir(full), dir.Mtim)
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
