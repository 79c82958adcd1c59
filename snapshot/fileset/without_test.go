package fileset

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithout(t *testing.T) {
	all := Memory(
		MemoryFile{Name: "a/store", Mode: 0o644},
		MemoryFile{Name: "dir/store/blob", Mode: 0o644},
		MemoryFile{Name: "dir/store/sub/blob", Mode: 0o644},
		MemoryFile{Name: "dir/storehouse", Mode: 0o644},
	)
	tree := Without(all, "dir/store")
	want := lines(`
		a dir 0755 0:0 0001-01-01T00:00:00Z
		a/store file 0644 0:0 0001-01-01T00:00:00Z ""
		dir dir 0755 0:0 0001-01-01T00:00:00Z
		dir/storehouse file 0644 0:0 0001-01-01T00:00:00Z ""`)
	if diff := cmp.Diff(want, list(t, tree)); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"dir/store", "dir/store/blob", "dir/store/sub"} {
		_, lstat := tree.Lstat(name)
		_, open := tree.Open(name)
		_, readDir := tree.ReadDir(name)
		_, xattrs := tree.Xattrs(name)
		_, _, fast := openWithXattrs(tree, name)
		for _, err := range []error{lstat, open, readDir, xattrs, fast} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want that it is not there", name, err)
			}
		}
	}
}
