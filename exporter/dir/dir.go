// Package dir writes the files of an image, rather than the image: into a
// directory (type=local) or as a plain tar (type=tar).
//
//	err := dir.Write(ctx, "out", stack, dir.Options{})
//	err := dir.Tar(ctx, os.Stdout, dir.Join(map[string]snapshot.Tree{"linux_amd64": a, "linux_arm64": b}), dir.Options{})
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layertar"
)

// Options are the options of [Write] and [Tar].
type Options struct {
	// Epoch, if set, is the time of everything.
	Epoch *time.Time
	// Delete makes Write remove from its target what the tree does not have.
	Delete bool
	// Log is told what could not be kept, because only root may; nil discards it.
	Log *slog.Logger
}

// Tar writes all of t to w as a tar. Equal trees give equal bytes.
func Tar(ctx context.Context, w io.Writer, t snapshot.Tree, opt Options) error {
	return layertar.WriteTree(ctx, w, t, layertar.Options{Epoch: opt.Epoch, All: true})
}

// Write writes all of t into the directory target, which is made if it does not
// exist. What is there already stays, unless t has something by the same name or
// opt says otherwise: directories are merged, anything else is replaced. Links in
// target are never followed, so that nothing is written outside of it.
//
// Modes, times, links and extended attributes are the tree's; owners are if this
// process runs as root, and otherwise everything is the caller's, devices and
// privileged attributes are left out, and Log is told. Sockets are left out.
func Write(ctx context.Context, target string, t snapshot.Tree, opt Options) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("write directory: %w", err)
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return fmt.Errorf("write directory: %w", err)
	}
	defer root.Close()
	top, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("write directory: %w", err)
	}
	defer top.Close()
	w := &writer{
		ctx:   ctx,
		tree:  t,
		root:  root,
		owner: os.Geteuid() == 0,
		epoch: opt.Epoch,
		prune: opt.Delete,
		log:   opt.Log,
		links: map[inode]string{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if err := w.children(top, "."); err != nil {
		return fmt.Errorf("write directory %s: %w", target, err)
	}
	return nil
}

// inode tells hard links apart.
type inode struct{ dev, ino uint64 }

// writer writes one tree. Every file is made by its last name alone, relative to
// its open directory, which was opened without following a link.
type writer struct {
	ctx   context.Context
	tree  snapshot.Tree
	root  *os.Root
	owner bool // whether owners are kept
	epoch *time.Time
	prune bool // whether what the tree does not have is removed
	log   *slog.Logger
	links map[inode]string // the first name of each file that has several
}

// children writes what the directory name holds into dir.
func (w *writer) children(dir *os.File, name string) error {
	entries, err := w.tree.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if e.Name == "" || e.Name == "." || e.Name == ".." || strings.Contains(e.Name, "/") {
			return fmt.Errorf("%s: invalid file name %q", name, e.Name)
		}
		if err := w.entry(dir, path.Join(name, e.Name), e); err != nil {
			return err
		}
	}
	if w.prune {
		return w.removeOthers(dir, name, entries)
	}
	return nil
}

// removeOthers removes from dir whatever is not among entries.
func (w *writer) removeOthers(dir *os.File, name string, entries []snapshot.Entry) error {
	keep := map[string]bool{}
	for _, e := range entries {
		keep[e.Name] = true
	}
	there, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, base := range there {
		if keep[base] {
			continue
		}
		if err := w.root.RemoveAll(path.Join(name, base)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) entry(dir *os.File, name string, e snapshot.Entry) error {
	if e.Kind == snapshot.Socket {
		return nil
	}
	if e.Kind == snapshot.Dir {
		return w.directory(dir, name, e)
	}
	if err := w.remove(dir, name, e.Name); err != nil {
		return err
	}
	switch e.Kind {
	case snapshot.File:
		return w.fileOrLink(dir, name, e)
	case snapshot.Symlink:
		return w.symlink(dir, name, e)
	default:
		return w.special(dir, name, e)
	}
}

func (w *writer) fileOrLink(dir *os.File, name string, e snapshot.Entry) error {
	if e.Nlink < 2 {
		return w.file(dir, name, e)
	}
	id := inode{e.Dev, e.Ino}
	if first, ok := w.links[id]; ok {
		return w.root.Link(first, name)
	}
	w.links[id] = name
	return w.file(dir, name, e)
}

// remove makes room for something that is no directory.
func (w *writer) remove(dir *os.File, name, base string) error {
	err := unix.Unlinkat(int(dir.Fd()), base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		return w.root.RemoveAll(name)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return failed("remove", name, err)
	}
	return nil
}

func (w *writer) directory(parent *os.File, name string, e snapshot.Entry) error {
	dir, err := w.makeDirectory(parent, name, e.Name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := w.children(dir, name); err != nil {
		return err
	}
	// Only now, since what was written changed the times, and the mode may forbid
	// what was done.
	return w.attributes(dir, name, e)
}

// makeDirectory makes the directory, or opens the one that is there.
func (w *writer) makeDirectory(parent *os.File, name, base string) (*os.File, error) {
	fd := int(parent.Fd())
	err := unix.Mkdirat(fd, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, failed("stat", name, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return w.reopen(fd, name, base, st.Mode)
		}
		if err := unix.Unlinkat(fd, base, 0); err != nil {
			return nil, failed("remove", name, err)
		}
		err = unix.Mkdirat(fd, base, 0o700)
	}
	if err != nil {
		return nil, failed("make directory", name, err)
	}
	return openDirectory(fd, name, base)
}

// reopen opens a directory from before. An ordinary user may have to get the
// right to write to it first, as when an image is written a second time.
func (w *writer) reopen(fd int, name, base string, mode uint32) (*os.File, error) {
	if mode&0o700 != 0o700 && !w.owner {
		if err := w.root.Chmod(name, os.FileMode(mode&0o777|0o700)); err != nil {
			return nil, err
		}
	}
	return openDirectory(fd, name, base)
}

func openDirectory(fd int, name, base string) (*os.File, error) {
	d, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, failed("open", name, err)
	}
	return os.NewFile(uintptr(d), name), nil
}

func failed(op, name string, err error) error {
	return &os.PathError{Op: op, Path: name, Err: err}
}
