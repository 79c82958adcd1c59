// Package native is the snapshot driver that works everywhere: a root is a copy
// of the stack, and what a process changed is found by comparing. Its cost grows
// with the image, not with the change.
//
// An ordinary user's disk does not take every owner, device or attribute. The
// copy is then as good as can be, and what was not changed keeps, in the layer
// that is committed, the attributes that it has in the stack.
package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/mount"
)

// Driver makes roots by copying. It implements [snapshot.Driver].
type Driver struct {
	pool *layer.Pool
	tmp  func() (string, error)
}

var _ snapshot.Driver = (*Driver)(nil)

// New returns the driver for the layers in pool. tmp returns a directory for the
// copies, which need as much room as the images.
func New(pool *layer.Pool, tmp func() (string, error)) *Driver {
	return &Driver{pool: pool, tmp: tmp}
}

// Begin implements [snapshot.Driver].
func (d *Driver) Begin(ctx context.Context, stack []snapshot.ID, targets []snapshot.Target) (snapshot.Tx, error) {
	t, err := d.root(ctx, stack, targets)
	if err != nil {
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	// A change made now must not have the time of the copy's own changes.
	if err := nextTick(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// View implements [snapshot.Driver]. It is a copy as well: where nothing can be
// mounted, nothing can be made read-only, and layers must not be written to.
func (d *Driver) View(ctx context.Context, stack []snapshot.ID) (snapshot.View, error) {
	t, err := d.root(ctx, stack, nil)
	if err != nil {
		return nil, fmt.Errorf("view snapshot: %w", err)
	}
	return &view{t}, nil
}

// root copies the stack.
func (d *Driver) root(ctx context.Context, ids []snapshot.ID, targets []snapshot.Target) (*tx, error) {
	stack, err := d.pool.Stack(ids)
	if err != nil {
		return nil, err
	}
	stubs, err := mount.Stubs(stack, targets)
	if err != nil {
		return nil, err
	}
	tmp, err := d.tmp()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(tmp, "native-")
	if err != nil {
		return nil, err
	}
	t := &tx{pool: d.pool, stack: stack, dir: dir}
	if t.before, err = copyTree(ctx, stack, stubs, t.root()); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// tx is a copy of a stack that may be changed. It implements [snapshot.Tx].
type tx struct {
	pool   *layer.Pool
	stack  *layer.Stack
	dir    string
	before map[string]*copied
}

func (t *tx) root() string { return filepath.Join(t.dir, "root") }

// Mounts implements [snapshot.Tx].
func (t *tx) Mounts() []snapshot.Mount {
	return []snapshot.Mount{{Type: "bind", Source: t.root(), Target: "/"}}
}

// Commit implements [snapshot.Tx].
func (t *tx) Commit(ctx context.Context, id snapshot.ID) error {
	if err := t.commit(ctx, id); err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	return nil
}

func (t *tx) commit(ctx context.Context, id snapshot.ID) error {
	draft, err := t.pool.Draft()
	if err != nil {
		return err
	}
	defer draft.Close() // nothing to do after Commit, and left to a sweep otherwise
	if err := diff(ctx, t, draft); err != nil {
		return err
	}
	return draft.Commit(id)
}

// Close implements [snapshot.Tx]. An ordinary user cannot remove what is in a
// directory of mode 0, and so gives himself the right first.
func (t *tx) Close() error {
	err := os.RemoveAll(t.dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	err = filepath.WalkDir(t.dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return os.Chmod(name, 0o700)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(t.dir))
}

// view is a copy that nobody should change. It implements [snapshot.View].
type view struct{ *tx }

// Mounts implements [snapshot.View].
func (v *view) Mounts() []snapshot.Mount {
	return []snapshot.Mount{{Type: "bind", Source: v.root(), Target: "/", Options: []string{"ro"}}}
}
