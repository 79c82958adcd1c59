package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Locks are flock(2) on files of their own: the kernel releases them when their
// process dies, however it dies. A lock file is removed by its last holder; who
// waited for one that was removed meanwhile starts again with a new file.

// Lock waits until this process alone holds the lock of that name and returns
// what releases it. Within one process it excludes other callers too.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path := s.lockPath(name)
	f, err := lockFile(ctx, path, unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() {
		os.Remove(path)
		f.Close()
	}, nil
}

func (s *Store) lockPath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return s.Path("locks", hex.EncodeToString(sum[:16]))
}

// TryLock is Lock, but does not wait: ok is false if somebody has the lock.
func (s *Store) TryLock(name string) (unlock func(), ok bool, err error) {
	path := s.lockPath(name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil || !isFileAt(f, path) {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil
		}
		return nil, false, err
	}
	return func() {
		os.Remove(path)
		f.Close()
	}, true, nil
}

// Use claims the store for the life of this process: until Close, nobody's
// Exclusive succeeds. Further calls do nothing.
func (s *Store) Use(ctx context.Context) (err error) {
	s.used.Do(func() {
		var f *os.File
		if f, err = lockFile(ctx, s.Path("locks", "store"), unix.LOCK_SH); err == nil {
			s.use = func() { f.Close() }
		}
	})
	return err
}

// ErrInUse reports that another process is using the store.
var ErrInUse = errors.New("the store is in use by another lamina")

// Exclusive claims the store for this process alone, so that what no name and
// no record refers to can be removed. It does not wait: it is ErrInUse while
// any other process uses the store.
func (s *Store) Exclusive() (unlock func(), err error) {
	path := s.Path("locks", "store")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockFile opens and locks path, which its holders may remove, and waits for
// others in short naps: flock(2) cannot be interrupted by a context.
func lockFile(ctx context.Context, path string, how int) (*os.File, error) {
	nap := time.Millisecond
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = flock(f, how|unix.LOCK_NB)
		if err == nil && isFileAt(f, path) {
			return f, nil
		}
		f.Close()
		if err == nil {
			continue // removed while we waited; the lock is on nothing
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(nap):
			nap = min(2*nap, 100*time.Millisecond)
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

func isFileAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// tempPath is where process-owned temporary directories live.
func (s *Store) tempPath(name string) string { return filepath.Join(s.root, "tmp", name) }
