package collect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lamina/solver/local"
)

// listRest lists what is neither needed by anybody nor a part of the cache: the
// store's own lists, half-made work, and what others put there.
func (inv *inventory) listRest() error {
	entries, err := inv.addDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		kind, known := kindOf(e.Name())
		if known {
			continue
		}
		if kind == Temporary && e.IsDir() {
			err = inv.listTemporary(e.Name())
		} else {
			err = inv.addFixed(kind, e.Name())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listTemporary lists what is in the directory, which itself always is there.
func (inv *inventory) listTemporary(dir string) error {
	entries, err := inv.addDir(dir)
	for _, e := range entries {
		if err := inv.addFixed(Temporary, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return err
}

// addFixed adds what a collection does not remove.
func (inv *inventory) addFixed(kind Kind, path string) error {
	u, err := inv.add(kind, filepath.Base(path), path)
	if err == nil {
		u.fixed, u.pinned = true, true
	}
	return err
}

// kindOf is the kind of what lies in the store's directory; listed elsewhere says
// that its parts are units of their own.
func kindOf(name string) (kind Kind, elsewhere bool) {
	switch name {
	case "layers", "blobs", "origins", "mounts", "index", buildsDir, local.GitDir:
		return "", true
	case "tmp", "containers":
		return Temporary, false
	case "oci-layout", "index.json", "locks", evictionsFile, evictionsOld, accountFile:
		return Fixed, false
	}
	if strings.HasPrefix(name, "sums") {
		return StatIndex, false
	}
	return Other, false
}

// exists tells whether something is in the store's directory.
func (inv *inventory) exists(name string) bool {
	_, err := os.Lstat(inv.store.Path(name))
	return !errors.Is(err, fs.ErrNotExist)
}
