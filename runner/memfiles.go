package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"lamina/snapshot"
	"lamina/snapshot/mount"
)

// File is a file that exists in memory while the container does: a secret, a
// here-document. No disk ever sees it, and it is gone with the container however
// that ends. The process can read it, not write it.
type File struct {
	Target   string // absolute
	Data     []byte
	Mode     uint32 // permission bits
	UID, GID int
}

// options are those of the mount of f.
func (f File) options() []string {
	if f.Mode&0o111 == 0 {
		return []string{"ro", "noexec"}
	}
	return []string{"ro"}
}

// memory is where the files of a container are before they are bound into it: a
// tmpfs that only the container's own mount namespace has.
func (b bundle) memory(i int) string { return filepath.Join(b.dir, "memory", strconv.Itoa(i)) }

func writeFiles(b bundle, files []File) error {
	if len(files) == 0 {
		return nil
	}
	dir := filepath.Dir(b.memory(0))
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	tmpfs := snapshot.Mount{Type: "tmpfs", Target: "/", Options: []string{"mode=0711"}}
	if err := mount.Do(dir, []snapshot.Mount{tmpfs}); err != nil {
		return fmt.Errorf("filesystem in memory: %w", err)
	}
	for i, f := range files {
		name := b.memory(i)
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			return err
		}
		if err := os.Chown(name, f.UID, f.GID); err != nil {
			return err
		}
		if err := os.Chmod(name, os.FileMode(f.Mode&0o777)); err != nil {
			return err
		}
	}
	return nil
}
