package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// tempDir is a process's own directory below tmp, made when first asked for.
//
// The protocol, which Sweep relies on: a process creates and locks
// tmp/<name>.lock, and only then makes tmp/<name>. So a directory without a lock
// file, or whose lock can be had, belongs to nobody living.
type tempDir struct {
	mu   sync.Mutex
	dir  string
	lock *os.File
}

// Temp returns this process's temporary directory. It lies on the store's
// filesystem, so what is made in it can be renamed into place. When the process
// ends, however it ends, the directory goes, at the latest when the next process
// asks for one.
func (s *Store) Temp() (string, error) {
	t := &s.temp
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir != "" {
		return t.dir, nil
	}
	if err := os.MkdirAll(s.Path("tmp"), 0o700); err != nil {
		return "", err
	}
	f, err := s.ownedLock()
	if err != nil {
		return "", fmt.Errorf("make temporary directory: %w", err)
	}
	dir := strings.TrimSuffix(f.Name(), ".lock")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Close()
		return "", err
	}
	t.dir, t.lock = dir, f
	s.Sweep()
	return dir, nil
}

// ownedLock creates and locks a lock file of this process.
func (s *Store) ownedLock() (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.Path("tmp"), fmt.Sprintf("%d-*.lock", os.Getpid()))
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			f.Close()
			return nil, err
		}
		if isFileAt(f, f.Name()) {
			return f, nil
		}
		f.Close() // between creation and lock a sweeper took it for a dead one's
	}
}

func (t *tempDir) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir == "" {
		return nil
	}
	err := RemoveAll(t.dir)
	os.Remove(t.lock.Name())
	t.lock.Close()
	t.dir, t.lock = "", nil
	return err
}

// Sweep removes the temporary directories of dead processes. What it cannot
// remove now, the next one will try.
func (s *Store) Sweep() {
	entries, _ := os.ReadDir(s.Path("tmp"))
	for _, e := range entries {
		name, isLock := strings.CutSuffix(e.Name(), ".lock")
		lock := s.tempPath(name + ".lock")
		f, err := os.OpenFile(lock, os.O_RDWR, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !isLock:
			RemoveAll(s.tempPath(name))
			continue
		case err != nil:
			continue
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil && isFileAt(f, lock) {
			if RemoveAll(s.tempPath(name)) == nil {
				os.Remove(lock)
			}
		}
		f.Close()
	}
}

// RemoveAll removes path and everything in it, directories without write
// permission included, which os.RemoveAll cannot do for an ordinary user.
func RemoveAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(path, func(name string, e fs.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
