package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

const (
	// maxLayers is how many layers become lower directories of their own. The
	// kernel takes 500 (OVL_MAX_STACK), some of which are the driver's.
	maxLayers = 480
	// foldSize is how many layers become one where there are too many. Only whole
	// runs from the bottom are folded, so a stack that grows by a layer finds the
	// same ones again.
	foldSize = 32
)

// fold returns layers that say the same as the given ones and are few enough to
// be mounted. What it makes it leaves in the pool, under names of its own.
func (d *Driver) fold(ctx context.Context, layers []*layer.Dir) ([]*layer.Dir, error) {
	var folded []*layer.Dir
	for len(folded)+len(layers) > maxLayers && len(layers) >= foldSize {
		l, err := d.foldOne(ctx, layers[:foldSize])
		if err != nil {
			return nil, fmt.Errorf("fold %d layers into one: %w", foldSize, err)
		}
		folded, layers = append(folded, l), layers[foldSize:]
	}
	if n := len(folded) + len(layers); n > maxLayers {
		return nil, fmt.Errorf("too many layers: %d folded into %d are more than %d", len(folded)*foldSize, len(folded), maxLayers)
	}
	return append(folded, layers...), nil
}

// foldOne returns one layer for many, remembered from an earlier time or made.
func (d *Driver) foldOne(ctx context.Context, layers []*layer.Dir) (*layer.Dir, error) {
	h := sha256.New()
	for _, l := range layers {
		fmt.Fprintf(h, "%s\x00", l.ID())
	}
	id := snapshot.ID(fmt.Sprintf("fold-%x", h.Sum(nil)))
	if l, err := d.pool.Open(id); !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	tmp, err := d.tmp()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(tmp, "fold-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // a failure leaves it to whoever sweeps tmp
	m := merger{dir: filepath.Join(dir, "fs"), dirs: map[string]source{".": {}}}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	for _, l := range layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := m.add(l); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.ID(), err)
		}
	}
	implied, err := m.finish()
	if err != nil {
		return nil, err
	}
	if err := d.pool.Adopt(m.dir, id, implied...); err != nil {
		return nil, err
	}
	return d.pool.Open(id)
}

// merger lays layers on each other, the lowest first, into one that says the
// same. Files are linked, not copied: published layers do not change.
type merger struct {
	dir string
	// dirs tells where each directory gets its attributes from. It may hold
	// names that are no directories any more.
	dirs map[string]source
}

// source is where a directory's attributes come from. Without a layer it is
// implied.
type source struct {
	layer *layer.Dir
	item  layer.Item
}

// add lays l on what is there.
func (m *merger) add(l *layer.Dir) error {
	return l.Walk(func(name string, it layer.Item) error {
		full := filepath.Join(m.dir, name)
		switch {
		case it.Whiteout:
			if err := os.RemoveAll(full); err != nil {
				return err
			}
			return mknodWhiteout(full)
		case it.Kind == snapshot.Dir:
			return m.directory(l, name, it)
		}
		if err := os.RemoveAll(full); err != nil {
			return err
		}
		return os.Link(filepath.Join(l.Path(), name), full)
	})
}

// directory lays the directory name on what is there. Where that is a file or a
// whiteout, which hides all that is below, the directory must hide it too.
func (m *merger) directory(l *layer.Dir, name string, it layer.Item) error {
	full := filepath.Join(m.dir, name)
	there, err := os.Lstat(full)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	missing := err != nil
	replaces := !missing && !there.IsDir()
	if replaces || it.Opaque {
		if err := os.RemoveAll(full); err != nil {
			return err
		}
	}
	if missing || replaces || it.Opaque {
		if err := os.Mkdir(full, 0o700); err != nil {
			return err
		}
	}
	if replaces || it.Opaque {
		if err := unix.Lsetxattr(full, opaqueXattr, []byte("y"), 0); err != nil {
			return &os.PathError{Op: "setxattr", Path: full, Err: err}
		}
	}
	if !it.Implied || replaces {
		m.dirs[name] = source{layer: l, item: it}
	} else if missing {
		m.dirs[name] = source{}
	}
	return nil
}

// finish settles the attributes of the directories, children first, and returns
// the names of those that are implied.
func (m *merger) finish() (implied []string, err error) {
	names := slices.Sorted(maps.Keys(m.dirs))
	for _, name := range slices.Backward(names) {
		full := filepath.Join(m.dir, name)
		is, err := isDir(full)
		if err != nil {
			return nil, err
		}
		from := m.dirs[name]
		switch {
		case !is:
			continue
		case from.layer == nil:
			implied = append(implied, name)
			continue
		}
		xattrs, err := from.layer.Xattrs(name)
		if err != nil {
			return nil, err
		}
		if err := setAttrs(full, from.item.Entry, xattrs); err != nil {
			return nil, err
		}
	}
	slices.Reverse(implied)
	return implied, nil
}

// isDir tells whether full is a directory; a missing file is none.
func isDir(full string) (bool, error) {
	fi, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return err == nil && fi.IsDir(), err
}

// originXattr on a directory tells the kernel that it was copied up, from where
// is not known if it is empty. It looks for whiteouts in such a directory even if
// no other lies below, and otherwise lists them as files.
const originXattr = "trusted.overlay.origin"

func mknodWhiteout(full string) error {
	if err := unix.Mknod(full, unix.S_IFCHR, 0); err != nil {
		return &os.PathError{Op: "mknod", Path: full, Err: err}
	}
	dir := filepath.Dir(full)
	err := unix.Lsetxattr(dir, originXattr, nil, unix.XATTR_CREATE)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "setxattr", Path: dir, Err: err}
	}
	return nil
}
