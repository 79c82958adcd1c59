package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteFile makes the file name of what write writes, whole or not at all: the
// content gets the name only at the end, and until then has none if the
// filesystem can do that, so that nothing is left by whoever is killed. A link is
// followed. What is no file (a pipe, a device) is written to and stays what it is.
func WriteFile(name string, write func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		return writeThrough(name, st, write)
	}
	dir, base := filepath.Split(name)
	beside := filepath.Join(dir, "."+base+"-"+strings.ToLower(rand.Text()[:8]))
	fd, err := unix.Open(filepath.Clean(dir), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	nameless := err == nil
	if !nameless {
		fd, err = unix.Open(beside, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	}
	if err != nil {
		return &fs.PathError{Op: "create", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name) // errors name the file that is to be
	defer f.Close()
	defer os.Remove(beside) // a no-op once it is renamed
	if err := write(f); err != nil {
		return err
	}
	if nameless {
		open := fmt.Sprintf("/proc/self/fd/%d", fd)
		if err := unix.Linkat(unix.AT_FDCWD, open, unix.AT_FDCWD, beside, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &os.LinkError{Op: "link", Old: open, New: beside, Err: err}
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(beside, name)
}

// writeThrough writes to what is there already and is no regular file.
func writeThrough(name string, st fs.FileInfo, write func(io.Writer) error) error {
	if st.IsDir() {
		return fmt.Errorf("%s is a directory", name)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// MakeParent makes the directory that the file name is to be in.
func MakeParent(name string) error {
	return os.MkdirAll(filepath.Dir(name), 0o755)
}
