package builds

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/solver"
)

// Store is the remembered builds of a store. Any number of processes may use it at
// once.
//
//	builds/<id>/build   the document; see documentMagic
//	builds/<id>/log     what its steps printed, once they did; see frame
//	builds/<id>/lock    locked while the build goes on
//
// A build appears and disappears as a whole, by being renamed from and to a
// directory below tmp/ of the process that does it.
type Store struct{ store *cache.Store }

const (
	storeDir     = "builds"
	documentFile = "build"
	logFile      = "log"
	lockFile     = "lock"
)

// In returns the builds of a store.
func In(store *cache.Store) *Store { return &Store{store} }

func (s *Store) path(id string, elem ...string) string {
	return s.store.Path(append([]string{storeDir, id}, elem...)...)
}

// IDs are those of all builds, the latest first.
func (s *Store) IDs() ([]string, error) {
	entries, err := os.ReadDir(s.store.Path(storeDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range slices.Backward(entries) {
		if _, ok := ticksOf(e.Name()); ok {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// DamagedError reports that what is stored of a build cannot be read. It can be
// removed.
type DamagedError struct {
	ID  string
	Err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("what is remembered of build %s cannot be read: %v", e.ID, e.Err)
}
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says what can be done.
func (e *DamagedError) Hint() string { return fmt.Sprintf("'lamina builds rm %s' removes it", e.ID) }

// Get returns the build with this ID: fs.ErrNotExist if there is none, a
// *DamagedError if it cannot be read.
func (s *Store) Get(id string) (*Build, error) {
	b, err := s.read(id)
	if err != nil || b.Status != Running || s.running(id) {
		return b, err
	}
	// It may have ended between the two looks.
	if b, err = s.read(id); err != nil || b.Status != Running {
		return b, err
	}
	b.killed(s.lastSign(id))
	return b, nil
}

// All returns all builds, the latest first, or else the error of the one that
// cannot be read, which is a *DamagedError.
func (s *Store) All() (iter.Seq2[*Build, error], error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	return func(yield func(*Build, error) bool) {
		for _, id := range ids {
			b, err := s.Get(id)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if !yield(b, err) {
				return
			}
		}
	}, nil
}

func (s *Store) read(id string) (*Build, error) {
	b := &Build{}
	if err := s.readInto(id, b); err != nil {
		return nil, err
	}
	if b.ID != id {
		return nil, &DamagedError{id, fmt.Errorf("it is that of build %q", b.ID)}
	}
	return b, nil
}

// readInto decodes the document of a build into v; see decodeDocument.
func (s *Store) readInto(id string, v any) error {
	data, err := os.ReadFile(s.path(id, documentFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Lstat(s.path(id)); errors.Is(serr, fs.ErrNotExist) {
			return fmt.Errorf("build %s: %w", id, fs.ErrNotExist)
		}
		return &DamagedError{id, errors.New("it has no document")}
	}
	if err == nil {
		err = decodeDocument(data, v)
	}
	if err != nil {
		return &DamagedError{id, err}
	}
	return nil
}

// running tells whether the process of a build lives.
func (s *Store) running(id string) bool {
	f, err := os.Open(s.path(id, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// lastSign is when the build with this ID was last heard of.
func (s *Store) lastSign(id string) time.Time {
	last := timeOf(id)
	for _, name := range []string{documentFile, logFile} {
		if st, err := os.Stat(s.path(id, name)); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last.UTC()
}

// killed says what is known of a running build whose process is dead.
func (b *Build) killed(last time.Time) {
	b.Status, b.Ended = Killed, last
	for i := range b.Steps {
		if s := &b.Steps[i]; s.Verdict == Executing {
			s.Verdict, s.Took = solver.VerdictCanceled, max(0, last.Sub(s.Started))
		}
	}
	for i := range b.Phases {
		if p := &b.Phases[i]; p.Status == Running {
			p.Status, p.Took = Killed, max(0, last.Sub(p.Started))
		}
	}
	b.settle()
}

// settle says of the steps that have no verdict that there was no need for one.
func (b *Build) settle() {
	for i := range b.Steps {
		if b.Steps[i].Verdict == Pending {
			b.Steps[i].Verdict = solver.VerdictUnneeded
		}
	}
}

// ErrRunning reports that a build goes on, and so cannot be removed.
var ErrRunning = errors.New("it is still running")

// Remove forgets the build with this ID, which may be damaged: fs.ErrNotExist if
// there is none, ErrRunning if it goes on.
func (s *Store) Remove(id string) error {
	if _, ok := ticksOf(id); !ok {
		return fmt.Errorf("build %q: %w", id, fs.ErrNotExist)
	}
	if s.running(id) {
		return fmt.Errorf("build %s: %w", id, ErrRunning)
	}
	temp, err := s.store.Temp()
	if err != nil {
		return fmt.Errorf("remove build %s: %w", id, err)
	}
	gone := filepath.Join(temp, "build-"+id)
	if err := os.Rename(s.path(id), gone); err != nil {
		return fmt.Errorf("remove build %s: %w", id, err)
	}
	return cache.RemoveAll(gone)
}

// Size is what one build takes.
type Size struct {
	ID      string
	Began   time.Time
	Bytes   int64 // on the disk
	Running bool
}

// Sizes are those of all builds, the latest first.
func (s *Store) Sizes() ([]Size, error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	var all []Size
	for _, id := range ids {
		size := Size{ID: id, Began: timeOf(id), Running: s.running(id)}
		for _, name := range []string{"", documentFile, logFile, lockFile} {
			if st, err := os.Lstat(s.path(id, name)); err == nil {
				const block = 512 // of stat(2), whatever the filesystem's blocks are
				size.Bytes += st.Sys().(*syscall.Stat_t).Blocks * block
			}
		}
		all = append(all, size)
	}
	return all, nil
}

// Blobs calls keep for each blob that a build's steps refer to, some more than
// once: the lists of what they read. A collection keeps these, so that a build can
// be explained as long as it is remembered.
func (s *Store) Blobs(keep func(digest.Digest)) error {
	ids, err := s.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		var b struct {
			Steps []struct {
				Inputs []struct {
					Read struct {
						Parts []struct {
							Digest digest.Digest `json:"digest"`
						} `json:"parts"`
					} `json:"read"`
				} `json:"inputs"`
			} `json:"steps"`
		}
		if err := s.readInto(id, &b); err != nil {
			continue // explains nothing
		}
		for _, step := range b.Steps {
			for _, in := range step.Inputs {
				for _, part := range in.Read.Parts {
					keep(part.Digest)
				}
			}
		}
	}
	return nil
}
