package snapshottest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// describe returns a line for each file of t but sockets, the root included, with
// all that a layer must hold of it.
func describe(t snapshot.Tree) ([]string, error) {
	var lines []string
	links := map[[2]uint64]string{} // first names of hard links
	add := func(name string, e snapshot.Entry) error {
		if e.Kind == snapshot.Socket {
			return nil
		}
		line := fmt.Sprintf("%q kind %d mode %o owner %d:%d time %s", name, e.Kind, e.Mode, e.UID, e.GID, e.ModTime.UTC().Format(time.RFC3339Nano))
		switch e.Kind {
		case snapshot.Symlink:
			line += fmt.Sprintf(" to %q", e.Link)
		case snapshot.CharDevice, snapshot.BlockDevice:
			line += fmt.Sprintf(" device %d:%d", e.Major, e.Minor)
		case snapshot.File:
			sum, err := sumOf(t, name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d sum %s", e.Size, sum)
		}
		if id := [2]uint64{e.Dev, e.Ino}; e.Kind != snapshot.Dir && e.Nlink > 1 {
			if first, ok := links[id]; ok {
				line += fmt.Sprintf(" is %q", first)
			} else {
				links[id] = name
			}
		}
		xattrs, err := t.Xattrs(name)
		if err != nil {
			return err
		}
		lines = append(lines, line+" "+describeXattrs(xattrs))
		return nil
	}
	root, err := t.Lstat(".")
	if err != nil {
		return nil, err
	}
	if err := add(".", root); err != nil {
		return nil, err
	}
	return lines, walk(t, ".", add)
}

// describeXattrs returns key="value" for each, in the order of keys.
func describeXattrs(xattrs map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(xattrs)) {
		all = append(all, fmt.Sprintf("%s=%q", key, xattrs[key]))
	}
	return strings.Join(all, " ")
}

// walk calls fn for all that is in the directory dir, parents first.
func walk(t snapshot.Tree, dir string, fn func(string, snapshot.Entry) error) error {
	entries, err := t.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if err := fn(name, e); err != nil {
			return err
		}
		if e.Kind == snapshot.Dir {
			if err := walk(t, name, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func sumOf(t snapshot.Tree, name string) (string, error) {
	r, err := t.Open(name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	_, err = io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), err
}

// disk is the tree of a directory as the kernel shows it.
type disk string

var _ snapshot.Tree = disk("")

func (d disk) path(name string) string { return filepath.Join(string(d), name) }

func (d disk) Lstat(name string) (snapshot.Entry, error) {
	fi, err := os.Lstat(d.path(name))
	if err != nil {
		return snapshot.Entry{}, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(d.path(name), &st); err != nil {
		return snapshot.Entry{}, err
	}
	e := snapshot.Entry{
		Name: path.Base(name), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		Size: st.Size, ModTime: fi.ModTime(), Dev: st.Dev, Ino: st.Ino, Nlink: uint64(st.Nlink),
		Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev),
	}
	kinds := map[fs.FileMode]snapshot.Kind{
		0: snapshot.File, fs.ModeDir: snapshot.Dir, fs.ModeSymlink: snapshot.Symlink,
		fs.ModeDevice | fs.ModeCharDevice: snapshot.CharDevice, fs.ModeDevice: snapshot.BlockDevice,
		fs.ModeNamedPipe: snapshot.Fifo, fs.ModeSocket: snapshot.Socket,
	}
	e.Kind = kinds[fi.Mode().Type()]
	if e.Kind == snapshot.Symlink {
		e.Link, err = os.Readlink(d.path(name))
	}
	return e, err
}

func (d disk) ReadDir(name string) ([]snapshot.Entry, error) {
	found, err := os.ReadDir(d.path(name))
	if err != nil {
		return nil, err
	}
	var entries []snapshot.Entry
	for _, f := range found {
		e, err := d.Lstat(path.Join(name, f.Name()))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (d disk) Open(name string) (io.ReadCloser, error) { return os.Open(d.path(name)) }

func (d disk) Xattrs(name string) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(d.path(name), list)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, err
	}
	found := map[string]string{}
	for key := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		if key == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(d.path(name), key, value)
		if err != nil {
			return nil, err
		}
		found[key] = string(value[:n])
	}
	return found, nil
}
