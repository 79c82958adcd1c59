package layer

import (
	"errors"
	"io"
	"io/fs"

	"lamina/snapshot"
)

// Prune removes from the draft what below, the tree that the layer will lie on,
// says already: files that were written with what they had, and directories
// whose files were. A directory's time alone is no change.
func (d *Draft) Prune(below snapshot.Tree) error {
	_, err := d.prune(".", below)
	return err
}

// prune prunes what is in the directory name and tells whether anything is left.
func (d *Draft) prune(name string, below snapshot.Tree) (left bool, err error) {
	d.mu.Lock()
	items, err := d.files().list(name)
	d.mu.Unlock()
	if err != nil {
		return false, err
	}
	for _, it := range items {
		useless, err := d.useless(join(name, it.Name), it, below)
		if err != nil {
			return false, err
		}
		if !useless {
			left = true
			continue
		}
		if err := d.Remove(join(name, it.Name)); err != nil {
			return false, err
		}
	}
	return left, nil
}

// lacks tells whether the tree does not have name, or no directory if that is one.
func lacks(t snapshot.Tree, name string, it Item) (bool, error) {
	e, err := t.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && it.Kind == snapshot.Dir && e.Kind != snapshot.Dir, err
}

// useless tells whether below says all that it says, after what is in it was pruned.
func (d *Draft) useless(name string, it Item, below snapshot.Tree) (bool, error) {
	if it.Whiteout || it.Opaque {
		return false, nil
	}
	// Most of what is written is new, with all that is in it.
	if isNew, err := lacks(below, name, it); isNew && !it.Implied || err != nil {
		return false, err
	}
	if it.Kind == snapshot.Dir {
		if left, err := d.prune(name, below); left || err != nil {
			return false, err
		}
		if it.Implied {
			return true, nil
		}
	}
	xattrs, err := d.Xattrs(name)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	e := d.draftEntry(name, it.Entry)
	d.mu.Unlock()
	return snapshot.Unchanged(below, name, e, xattrs, func() (io.ReadCloser, error) { return d.Open(name) })
}
