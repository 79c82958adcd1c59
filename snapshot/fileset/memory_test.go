package fileset

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemory(t *testing.T) {
	tree := Memory(
		MemoryFile{Name: "z", Mode: 0o600, ModTime: when, Data: []byte("last")},
		MemoryFile{Name: "/dir/sub/a", Mode: 0o644, ModTime: when, Data: []byte("first")},
		MemoryFile{Name: "dir/b", Mode: 0o4755, ModTime: when, Size: 5, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("other")), nil
		}},
		MemoryFile{Name: "./z", Mode: 0o644, ModTime: when, Data: []byte("later")},
	)
	want := lines(`
		dir dir 0755 0:0 0001-01-01T00:00:00Z
		dir/b file 4755 0:0 "other"
		dir/sub dir 0755 0:0 0001-01-01T00:00:00Z
		dir/sub/a file 0644 0:0 "first"
		z file 0644 0:0 "later"`)
	if diff := cmp.Diff(want, list(t, tree)); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"nothing", "z/x", "dir"} {
		if _, err := tree.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q) = %v", name, err)
		}
	}
	if _, err := tree.ReadDir("z"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadDir of a file: %v", err)
	}
}

func TestMemoryRefusesOddNames(t *testing.T) {
	for _, names := range [][]string{{""}, {"a/b", "a"}, {"a", "a/b"}, {".."}} {
		t.Run(strings.Join(names, ","), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			memory(names...)
		})
	}
}
