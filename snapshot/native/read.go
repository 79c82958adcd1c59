package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// open opens a file of the copy for reading. An ordinary user who may not read
// his own file gives himself the right: the copy is not used any more.
func open(name string) (*os.File, error) {
	f, err := os.Open(name)
	if !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if err := os.Chmod(name, 0o700); err != nil {
		return nil, err
	}
	return os.Open(name)
}

// readDir lists the directory name of the copy.
func readDir(name string) ([]fs.DirEntry, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// readXattrs returns the extended attributes of name.
func readXattrs(name string) (map[string]string, error) {
	list, err := sized(func(buf []byte) (int, error) { return unix.Llistxattr(name, buf) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: name, Err: err}
	}
	found := map[string]string{}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if key == "" {
			continue
		}
		get := func(buf []byte) (int, error) { return unix.Lgetxattr(name, key, buf) }
		value, err := sized(get)
		if errors.Is(err, fs.ErrPermission) && os.Chmod(name, 0o700) == nil { // as in open
			value, err = sized(get)
		}
		if err != nil {
			return nil, fmt.Errorf("getxattr %s of %s: %w", key, name, err)
		}
		found[key] = string(value)
	}
	return found, nil
}

// sized returns what read fills a buffer with. Asked with an empty one, read
// returns the size that is needed.
func sized(read func(buf []byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = read(buf)
		if !errors.Is(err, unix.ERANGE) {
			return buf[:max(n, 0)], err
		}
	}
}
