// Package overlay is the snapshot driver for machines where overlays can be
// mounted: a stack of layers becomes a root without anything being copied, and
// what a process changed is found where the kernel put it.
//
//	upper     what changes; Commit moves it into the pool
//	patch     made by the driver: directories whose attributes a layer hides,
//	          and the places of mounts
//	layers    the stack, its topmost first
//
// redirect_dir, metacopy and index are off: with any of them the upper directory
// is not the whole difference to the layers below.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/mount"
)

// Driver makes roots by overlays. It implements [snapshot.Driver].
type Driver struct {
	pool *layer.Pool
	tmp  func() (string, error)
}

var _ snapshot.Driver = (*Driver)(nil)

// ErrSidecar reports a layer that an overlay would show wrongly, because the
// disk does not hold all of its attributes. Another driver can show it.
var ErrSidecar = errors.New("the layer was unpacked without the privileges that its owners, devices or attributes need; remove it and have it unpacked again as root")

// New returns the driver for the layers in pool. tmp returns a directory on the
// pool's filesystem for what lives as long as a transaction. The error says why
// overlays cannot be mounted there, as [Supported] does.
func New(pool *layer.Pool, tmp func() (string, error)) (*Driver, error) {
	dir, err := tmp()
	if err != nil {
		return nil, err
	}
	if err := Supported(dir); err != nil {
		return nil, err
	}
	return &Driver{pool: pool, tmp: tmp}, nil
}

// Begin implements [snapshot.Driver].
func (d *Driver) Begin(ctx context.Context, stack []snapshot.ID, targets []snapshot.Target) (snapshot.Tx, error) {
	r, err := d.root(ctx, stack, targets)
	if err != nil {
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	t := &tx{root: r, pool: d.pool}
	if err := t.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("begin snapshot: %w", err), t.Close())
	}
	return t, nil
}

// View implements [snapshot.Driver].
func (d *Driver) View(ctx context.Context, stack []snapshot.ID) (snapshot.View, error) {
	r, err := d.root(ctx, stack, nil)
	if err != nil {
		return nil, fmt.Errorf("view snapshot: %w", err)
	}
	return r, nil
}

// root is a read-only root over a stack.
type root struct {
	dir   string // holds what is the root's own
	stack *layer.Stack
	lower []string // the lower directories, uppermost first
	kept  []mount.Stub
}

// root returns a root over ids in which the targets exist.
func (d *Driver) root(ctx context.Context, ids []snapshot.ID, targets []snapshot.Target) (*root, error) {
	stack, err := d.pool.Stack(ids)
	if err != nil {
		return nil, err
	}
	tmp, err := d.tmp()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(tmp, "overlay-")
	if err != nil {
		return nil, err
	}
	r := &root{dir: dir, stack: stack}
	if err := r.lay(ctx, d, targets); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// lay prepares the lower directories: the patch, then the layers, then an empty
// directory, because the kernel wants two if there is no upper one.
func (r *root) lay(ctx context.Context, d *Driver, targets []snapshot.Target) error {
	stubs, err := mount.Stubs(r.stack, targets)
	if err != nil {
		return err
	}
	patch := r.path("patch")
	if err := writePatch(patch, r.stack, stubs); err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	r.kept = slices.DeleteFunc(stubs, func(s mount.Stub) bool { return !s.Keep })
	layers, err := usable(r.stack.Layers())
	if err != nil {
		return err
	}
	if layers, err = d.fold(ctx, layers); err != nil {
		return err
	}
	r.lower = append(r.lower, patch)
	for _, l := range slices.Backward(layers) {
		r.lower = append(r.lower, l.Path())
	}
	empty := r.path("empty")
	r.lower = append(r.lower, empty)
	return os.Mkdir(empty, 0o755)
}

// usable returns what an overlay can be made of. Of a layer that stands in the
// stack more than once that is only the uppermost, because the kernel takes no
// directory twice; it says again all that the others say. Below a layer that
// hides everything it is nothing, because the kernel ignores the mark on a root.
func usable(layers []*layer.Dir) ([]*layer.Dir, error) {
	var found []*layer.Dir
	seen := map[string]bool{}
	for _, l := range slices.Backward(layers) {
		if seen[l.Path()] {
			continue
		}
		seen[l.Path()] = true
		foreign, err := l.Sidecar()
		if err != nil {
			return nil, err
		}
		if foreign {
			return nil, fmt.Errorf("layer %s: %w", l.ID(), ErrSidecar)
		}
		found = append(found, l)
		top, err := l.Lstat(".")
		if err != nil {
			return nil, err
		}
		if top.Opaque {
			break
		}
	}
	slices.Reverse(found)
	return found, nil
}

func (r *root) path(name string) string { return filepath.Join(r.dir, name) }

// Mounts implements [snapshot.View].
func (r *root) Mounts() []snapshot.Mount { return r.mount() }

// mount returns the overlay of the lower directories with more options.
func (r *root) mount(more ...string) []snapshot.Mount {
	options := []string{"redirect_dir=off", "metacopy=off", "index=off"}
	for _, dir := range r.lower {
		options = append(options, "lowerdir+="+dir)
	}
	return []snapshot.Mount{{Type: "overlay", Target: "/", Options: append(options, more...)}}
}

// Close implements [snapshot.View] and [snapshot.Tx].
func (r *root) Close() error { return os.RemoveAll(r.dir) }
