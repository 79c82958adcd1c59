package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/mount"
)

// copied is a file of the copy as it was when the copy was complete.
type copied struct {
	inode
	// name is that of the original in the stack, "" of a stub.
	name string
	// refused are attributes that the disk did not take.
	refused map[string]string
}

// copyTree makes the directory to a copy of from with the stubs in it and
// returns what is in it by name.
func copyTree(ctx context.Context, from snapshot.Tree, stubs []mount.Stub, to string) (map[string]*copied, error) {
	c := copier{from: from, to: to, made: map[string]*copied{}, links: map[file]string{}}
	if err := c.directory("."); err != nil {
		return nil, err
	}
	if err := c.children(ctx, "."); err != nil {
		return nil, err
	}
	for _, s := range stubs {
		if err := c.stub(s); err != nil {
			return nil, fmt.Errorf("make mount target /%s: %w", s.Name, err)
		}
	}
	if err := c.settle(); err != nil {
		return nil, err
	}
	return c.made, nil
}

// copier is a copy in the making.
type copier struct {
	from  snapshot.Tree
	to    string
	names []string // parents first
	made  map[string]*copied
	links map[file]string // the first name of each file that has several
}

// file identifies a file of the tree that is copied.
type file struct{ dev, ino uint64 }

func (c *copier) path(name string) string { return filepath.Join(c.to, name) }

// add notes that name is made; the rest is filled in by settle.
func (c *copier) add(name string, made *copied) {
	c.names = append(c.names, name)
	c.made[name] = made
}

// directory makes a directory that its owner can use until it is settled.
func (c *copier) directory(name string) error {
	c.add(name, &copied{name: name})
	return os.Mkdir(c.path(name), 0o700)
}

func (c *copier) children(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := c.from.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if e.Kind == snapshot.Dir {
			if err := c.directory(name); err != nil {
				return err
			}
			if err := c.children(ctx, name); err != nil {
				return err
			}
			continue
		}
		if err := c.file(name, e); err != nil {
			return fmt.Errorf("copy /%s: %w", name, err)
		}
	}
	return nil
}

// file copies what is not a directory.
func (c *copier) file(name string, e snapshot.Entry) error {
	if e.Kind == snapshot.Socket {
		return nil // means nothing without the process that listens
	}
	full := c.path(name)
	if e.Nlink > 1 {
		id := file{e.Dev, e.Ino}
		if first, ok := c.links[id]; ok {
			c.add(name, c.made[first])
			return os.Link(c.path(first), full)
		}
		c.links[id] = name
	}
	switch e.Kind {
	case snapshot.File:
		if err := copyContent(c.from, name, full); err != nil {
			return err
		}
	case snapshot.Symlink:
		if err := os.Symlink(e.Link, full); err != nil {
			return err
		}
	default:
		if err := makeNode(full, e); err != nil {
			return err
		}
	}
	made := &copied{name: name}
	c.add(name, made)
	return c.attrs(name, e, made)
}

// attrs gives the copy of name its attributes, as far as the disk takes them.
func (c *copier) attrs(name string, e snapshot.Entry, made *copied) error {
	full := c.path(name)
	xattrs, err := c.from.Xattrs(name)
	if err != nil {
		return err
	}
	// In this order: a change of owner takes away setuid and capabilities.
	if err := permitted(os.Lchown(full, e.UID, e.GID)); err != nil {
		return err
	}
	for key, value := range xattrs {
		err := unix.Lsetxattr(full, key, []byte(value), 0)
		if refusal(err) {
			if made.refused == nil {
				made.refused = map[string]string{}
			}
			made.refused[key] = value
		} else if err != nil {
			return fmt.Errorf("setxattr %s: %w", key, err)
		}
	}
	if e.Kind != snapshot.Symlink {
		if err := unix.Fchmodat(unix.AT_FDCWD, full, e.Mode, 0); permitted(err) != nil {
			return &os.PathError{Op: "chmod", Path: full, Err: err}
		}
	}
	t, err := unix.TimeToTimespec(e.ModTime)
	if err != nil {
		return fmt.Errorf("time of /%s: %w", name, err)
	}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	return os.NewSyscallError("utimensat", err)
}

// stub makes something that the stack does not have.
func (c *copier) stub(s mount.Stub) error {
	if !s.Keep {
		c.add(s.Name, &copied{})
	}
	full := c.path(s.Name)
	if s.Dir {
		return errors.Join(os.Mkdir(full, 0o755), os.Chmod(full, 0o755)) // whatever the umask
	}
	f, err := os.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o644), f.Close())
}

// settle gives directories their attributes and notes what everything is like
// then. Children come first: making them changed the directory, and once it has
// its own mode an ordinary user may not look into it any more.
func (c *copier) settle() error {
	for _, name := range slices.Backward(c.names) {
		made := c.made[name]
		now, err := lstat(c.path(name))
		if err != nil {
			return err
		}
		if now.isDir() && made.name != "" {
			e, err := c.from.Lstat(name)
			if err != nil {
				return err
			}
			if err := c.attrs(name, e, made); err != nil {
				return err
			}
			if now, err = lstat(c.path(name)); err != nil {
				return err
			}
		}
		made.inode = now
	}
	return nil
}

// makeNode makes a pipe or device. Where devices are not permitted an empty file
// takes the place of one.
func makeNode(full string, e snapshot.Entry) error {
	mode := map[snapshot.Kind]uint32{
		snapshot.Fifo: unix.S_IFIFO, snapshot.CharDevice: unix.S_IFCHR, snapshot.BlockDevice: unix.S_IFBLK,
	}[e.Kind]
	err := unix.Mknod(full, mode|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	if refusal(err) {
		return os.WriteFile(full, nil, 0o600)
	}
	return os.NewSyscallError("mknod", err)
}

// copyContent copies the bytes of a regular file. It shares them where the
// filesystem can, and leaves holes where the original has them.
func copyContent(t snapshot.Tree, name, full string) error {
	from, err := t.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	src, ok := from.(*os.File)
	switch {
	case !ok:
		_, err = io.Copy(to, from)
	case unix.IoctlFileClone(int(to.Fd()), int(src.Fd())) != nil:
		err = copySparse(to, src)
	}
	return errors.Join(err, to.Close())
}

// copySparse copies the parts of src that are not holes.
func copySparse(to, src *os.File) error {
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < fi.Size(); {
		start, err := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil {
			return err
		}
		end, err := src.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := src.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := to.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(to, src, end-start); err != nil {
			return err
		}
		at = end
	}
	return to.Truncate(fi.Size())
}

// refusal tells whether err says that the disk cannot hold something or the user
// may not have it, rather than that something is wrong.
func refusal(err error) bool {
	for _, no := range []error{unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL, unix.E2BIG, unix.ERANGE} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// permitted returns err unless it is a refusal.
func permitted(err error) error {
	if refusal(err) {
		return nil
	}
	return err
}
