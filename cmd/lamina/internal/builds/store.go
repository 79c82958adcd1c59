package builds

import (
	"errors"
	"fmt"
	"io"
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
//	builds/<id>/build   the document, see documentMagic; locked while the build goes on
//	builds/<id>/log     what its steps printed, once they did; see frame
//
// A build appears and disappears as a whole, by being renamed from and to a
// directory below tmp/ of the process that does it.
type Store struct{ store *cache.Store }

const (
	storeDir     = "builds"
	documentFile = "build"
	logFile      = "log"
)

// In returns the builds of a store.
func In(store *cache.Store) *Store { return &Store{store} }

func (s *Store) path(id string, elem ...string) string {
	return s.store.Path(append([]string{storeDir, id}, elem...)...)
}

// IDs are those of all builds, the latest first.
func (s *Store) IDs() ([]string, error) {
	dir, err := os.Open(s.store.Path(storeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(names, func(name string) bool { _, ok := ticksOf(name); return !ok })
	slices.Sort(ids)
	slices.Reverse(ids)
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
	for {
		f, err := s.open(id)
		if err != nil {
			return nil, err
		}
		b := &Build{}
		err = decodeFrom(f, id, b)
		if err == nil && b.ID != id {
			err = &DamagedError{id, fmt.Errorf("it is that of build %q", b.ID)}
		}
		dead := err == nil && b.Status == Running && !isLocked(f)
		replaced := dead && !isFileAt(f, s.path(id, documentFile))
		f.Close()
		switch {
		case err != nil:
			return nil, err
		case replaced:
			continue
		case dead:
			b.killed(s.lastSign(id))
		}
		return b, nil
	}
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

// open opens the document of a build.
func (s *Store) open(id string) (*os.File, error) {
	f, err := os.Open(s.path(id, documentFile))
	if err == nil {
		return f, nil
	}
	if _, serr := os.Lstat(s.path(id)); errors.Is(serr, fs.ErrNotExist) {
		return nil, fmt.Errorf("build %s: %w", id, fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it has no document")
	}
	return nil, &DamagedError{id, err}
}

// decodeFrom decodes the document f of a build into v; see decodeDocument.
func decodeFrom(f *os.File, id string, v any) error {
	data, err := io.ReadAll(f)
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
	f, err := s.open(id)
	if err != nil {
		return false
	}
	defer f.Close()
	// One that is not locked was left by its process, or replaced by it meanwhile.
	return isLocked(f) || !isFileAt(f, s.path(id, documentFile)) && s.running(id)
}

func isLocked(f *os.File) bool {
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func isFileAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
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
	os.Remove(filepath.Join(gone, documentFile)) // usually that is all there is
	os.Remove(filepath.Join(gone, logFile))
	if os.Remove(gone) == nil {
		return nil
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
		for _, name := range []string{"", documentFile, logFile} {
			if st, err := os.Lstat(s.path(id, name)); err == nil {
				const block = 512 // of stat(2), whatever the filesystem's blocks are
				size.Bytes += st.Sys().(*syscall.Stat_t).Blocks * block
			}
		}
		all = append(all, size)
	}
	return all, nil
}

// readBy is what Blobs wants of a step.
type readBy struct {
	Inputs []struct {
		Read struct {
			Parts []struct {
				Digest digest.Digest `json:"digest"`
			} `json:"parts"`
		} `json:"read"`
	} `json:"inputs"`
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
		s.BlobsOf(id, keep)
	}
	return nil
}

// BlobsOf is Blobs for one build. One that cannot be read explains nothing, and so
// refers to none.
func (s *Store) BlobsOf(id string, keep func(digest.Digest)) {
	var b struct {
		Steps    []readBy `json:"steps"`
		Imported []readBy `json:"imported"`
	}
	f, err := s.open(id)
	if err != nil {
		return
	}
	defer f.Close()
	if decodeFrom(f, id, &b) != nil {
		return
	}
	for _, step := range append(b.Steps, b.Imported...) {
		for _, in := range step.Inputs {
			for _, part := range in.Read.Parts {
				keep(part.Digest)
			}
		}
	}
}
