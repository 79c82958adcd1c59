package snapshottest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// then is the time of everything that bases hold.
var then = time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)

// entry is an entry of a base, owned by root, with a mode.
func entry(mode uint32) snapshot.Entry { return snapshot.Entry{Mode: mode, ModTime: then} }

// files writes files into a base, in the order given. Each is a name, followed
// by "/" for a directory, by " -> " and a target for a symbolic link, or by "="
// and the content for a regular file.
func files(specs ...string) func(d *layer.Draft) error {
	return func(d *layer.Draft) error {
		for _, spec := range append([]string{"./"}, specs...) {
			if err := put(d, spec); err != nil {
				return err
			}
		}
		return nil
	}
}

func put(d *layer.Draft, spec string) error {
	if dir, ok := strings.CutSuffix(spec, "/"); ok {
		return d.Mkdir(dir, entry(0o755))
	}
	if name, to, ok := strings.Cut(spec, " -> "); ok {
		e := entry(0o777)
		e.Link = to
		return d.Symlink(name, e)
	}
	name, data, _ := strings.Cut(spec, "=")
	return d.File(name, entry(0o644), strings.NewReader(data))
}

// do makes one change of several steps to a root.
func do(steps ...func(root string) error) func(root string) error {
	return func(root string) error {
		for _, step := range steps {
			if err := step(root); err != nil {
				return err
			}
		}
		return nil
	}
}

// on is a step that calls fn with the path of name.
func on(name string, fn func(full string) error) func(root string) error {
	return func(root string) error { return fn(filepath.Join(root, name)) }
}

// write is a step that creates or overwrites files, given as "name=content".
func write(specs ...string) func(root string) error {
	return func(root string) error {
		for _, spec := range specs {
			name, data, _ := strings.Cut(spec, "=")
			if err := os.WriteFile(filepath.Join(root, name), []byte(data), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
}

// mkdir is a step that makes directories.
func mkdir(names ...string) func(root string) error {
	return func(root string) error {
		for _, name := range names {
			if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
				return err
			}
		}
		return nil
	}
}

// remove is a step that removes files and whole directories, which must exist.
func remove(names ...string) func(root string) error {
	return func(root string) error {
		for _, name := range names {
			full := filepath.Join(root, name)
			if _, err := os.Lstat(full); err != nil {
				return err
			}
			if err := os.RemoveAll(full); err != nil {
				return err
			}
		}
		return nil
	}
}

// move is a step that renames as a shell would: by copying where the kernel
// refuses to rename.
func move(from, to string) func(root string) error {
	return func(root string) error {
		out, err := exec.Command("mv", filepath.Join(root, from), filepath.Join(root, to)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// link is a step that gives the file old another name.
func link(old, name string) func(root string) error {
	return func(root string) error {
		return os.Link(filepath.Join(root, old), filepath.Join(root, name))
	}
}

// setxattr is a step.
func setxattr(name, key, value string) func(root string) error {
	return on(name, func(full string) error { return unix.Lsetxattr(full, key, []byte(value), 0) })
}

// stamp is a step that sets the modification time of files.
func stamp(at time.Time, names ...string) func(root string) error {
	return func(root string) error {
		t, err := unix.TimeToTimespec(at)
		for _, name := range names {
			err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
		}
		return err
	}
}

// content returns what the file name of the stack s holds.
func (h *harness) content(s stack, name string) string {
	h.Helper()
	tree, err := h.pool.Stack(s)
	h.must(err)
	r, err := tree.Open(name)
	h.must(err)
	defer r.Close()
	data, err := io.ReadAll(r)
	h.must(err)
	return string(data)
}

// contains fails the test if the file name of s does not hold want.
func (h *harness) contains(s stack, name, want string) {
	h.Helper()
	if got := h.content(s, name); got != want {
		h.Errorf("%s holds %q, want %q", name, got, want)
	}
}

// equal fails the test if got is not want.
func equal[T comparable](h *harness, what string, got, want T) {
	h.Helper()
	if got != want {
		h.Errorf("%s is %v, want %v", what, got, want)
	}
}
