package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/mount"
)

// writePatch makes the directory dir, a layer to lie on all layers of stack, so
// that none of them must be changed. It holds the stubs, and, with the attributes
// that they have in the stack, the directories above the stubs and those that the
// kernel would show with the made-up attributes of an implied directory.
func writePatch(dir string, stack *layer.Stack, stubs []mount.Stub) error {
	p := patch{dir: dir, stack: stack, names: map[string]bool{}}
	if err := p.directory("."); err != nil {
		return err
	}
	wrong, err := hidden(stack)
	if err != nil {
		return err
	}
	for _, name := range wrong {
		if err := p.directory(name); err != nil {
			return err
		}
	}
	for _, s := range stubs {
		if err := p.stub(s); err != nil {
			return err
		}
	}
	return p.finish()
}

// patch is a patch that is being written.
type patch struct {
	dir   string
	stack *layer.Stack
	names map[string]bool // directories so far, those that imitate one of the stack
}

// directory makes the directory name and its parents, all of the stack.
func (p *patch) directory(name string) error {
	if _, ok := p.names[name]; ok {
		return nil
	}
	if name != "." {
		if err := p.directory(path.Dir(name)); err != nil {
			return err
		}
	}
	p.names[name] = true
	return os.Mkdir(filepath.Join(p.dir, name), 0o700)
}

// stub makes what the stack lacks. Its parents are stubs before it or in the stack.
func (p *patch) stub(s mount.Stub) error {
	above := path.Dir(s.Name)
	if err := p.directory(above); err != nil {
		return err
	}
	full := filepath.Join(p.dir, s.Name)
	if s.Dir {
		p.names[s.Name] = false
	}
	return makeStub(full, s.Dir)
}

// makeStub makes an empty directory, or else an empty file.
func makeStub(full string, dir bool) error {
	if dir {
		if err := os.Mkdir(full, 0o755); err != nil {
			return err
		}
		return os.Chmod(full, 0o755) // whatever the umask
	}
	f, err := os.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o644), f.Close())
}

// finish gives the directories their attributes, children first, because their
// making changes their parents' times.
func (p *patch) finish() error {
	names := slices.Sorted(maps.Keys(p.names))
	for _, name := range slices.Backward(names) {
		if !p.names[name] {
			continue
		}
		if err := imitate(filepath.Join(p.dir, name), p.stack, name); err != nil {
			return err
		}
	}
	return nil
}

// hidden returns the directories of stack that the kernel would show with other
// attributes than the true ones.
func hidden(stack *layer.Stack) ([]string, error) {
	implied := map[string]bool{}
	layers := stack.Layers()
	for _, l := range layers {
		names, err := l.Implied()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			implied[name] = true
		}
	}
	delete(implied, ".") // the patch's own root is what is seen of it
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(implied)) {
		is, err := isHidden(stack, name)
		if err != nil {
			return nil, err
		}
		if is {
			wrong = append(wrong, name)
		}
	}
	return wrong, nil
}

// isHidden tells whether the uppermost layer that has name, which is what the
// kernel looks at, only implies it and there is something to know below.
func isHidden(stack *layer.Stack, name string) (bool, error) {
	truth, err := stack.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && truth.Kind != snapshot.Dir {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var says []layer.Item // what the layers say of it, the uppermost first
	for _, l := range slices.Backward(stack.Layers()) {
		it, err := l.Lstat(name)
		if err == nil {
			says = append(says, it)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return len(says) > 1 && says[0].Implied, nil
}

// imitate gives the directory full the attributes that the directory name of t has.
func imitate(full string, t snapshot.Tree, name string) error {
	e, err := t.Lstat(name)
	if err != nil {
		return err
	}
	xattrs, err := t.Xattrs(name)
	if err != nil {
		return err
	}
	return setAttrs(full, e, xattrs)
}

// setAttrs gives the directory full the attributes of e, and xattrs.
func setAttrs(full string, e snapshot.Entry, xattrs map[string]string) error {
	if err := os.Lchown(full, e.UID, e.GID); err != nil {
		return err
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, full, e.Mode, 0); err != nil {
		return &os.PathError{Op: "chmod", Path: full, Err: err}
	}
	for name, value := range xattrs {
		if err := unix.Lsetxattr(full, name, []byte(value), 0); err != nil && !refused(err) {
			return fmt.Errorf("setxattr %s of %s: %w", name, full, err)
		}
	}
	t, err := unix.TimeToTimespec(e.ModTime)
	if err != nil {
		return fmt.Errorf("time of %s: %w", full, err)
	}
	return setTimes(full, t)
}

// refused tells whether err means that no disk of this kind holds the attribute.
// Then the layer that it comes from does not have it on the disk either.
func refused(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE)
}

// setTimes sets the modification time of full, and the access time with it.
func setTimes(full string, t unix.Timespec) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: full, Err: err}
	}
	return nil
}
