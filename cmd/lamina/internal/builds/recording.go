package builds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/solver"
)

// Recording is a build that is going on and is remembered. A nil Recording remembers
// nothing. It is safe for concurrent use.
//
// What its steps print is written as it comes, what became of them within
// saveInterval: that is what is known of a build that is killed.
type Recording struct {
	store *Store
	lock  *os.File

	mu    sync.Mutex
	build Build
	steps map[solver.ID]int // where the nodes are in build.Steps
	log   logWriter
	saved time.Time
	timer *time.Timer // saves later; nil if there is nothing to be saved
	over  bool
}

// saveInterval is how often the document of a running build is written at most.
const saveInterval = time.Second

// Begin begins to remember b, a build that begins now; the caller must call
// [Recording.End]. b says what was asked for.
func (s *Store) Begin(b Build) (*Recording, error) {
	b.Version, b.Status = documentVersion, Running
	if b.Started.IsZero() {
		b.Started = time.Now()
	}
	b.Started = b.Started.UTC()
	r := &Recording{store: s, build: b}
	if err := r.publish(); err != nil {
		return nil, fmt.Errorf("remember the build: %w", err)
	}
	r.log.path = s.path(r.build.ID, logFile)
	return r, nil
}

// publish makes the directory of the build, and its lock, which lets others see
// that it goes on.
func (r *Recording) publish() (err error) {
	temp, err := r.store.store.Temp()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temp, "build-")
	if err != nil {
		return err
	}
	r.lock, err = os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		if err = unix.Flock(int(r.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = r.place(dir)
		}
		if err != nil {
			r.lock.Close()
		}
	}
	if err != nil {
		cache.RemoveAll(dir)
	}
	return err
}

// place gives the build in dir an ID that no other has, and with that its place.
func (r *Recording) place(dir string) error {
	for {
		ids, err := r.store.IDs()
		if err != nil {
			return err
		}
		r.build.ID = nextID(r.build.Started, ids[:min(1, len(ids))])
		data, err := encodeDocument(&r.build)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, documentFile), data, 0o600); err != nil {
			return err
		}
		err = os.Rename(dir, r.store.path(r.build.ID))
		switch {
		case err == nil:
			r.saved = time.Now()
			return nil
		case errors.Is(err, fs.ErrNotExist):
			if err := os.Mkdir(r.store.store.Path(storeDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		case !errors.Is(err, fs.ErrExist): // which is also that a directory is not empty
			return err
		}
	}
}

// ID is that of the build.
func (r *Recording) ID() string {
	if r == nil {
		return ""
	}
	return r.build.ID
}

// change changes what is known of the build, and sees to it that it is saved.
func (r *Recording) change(change func(b *Build)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	change(&r.build)
	if r.timer == nil {
		r.timer = time.AfterFunc(max(0, saveInterval-time.Since(r.saved)), r.saveLater)
	}
}

func (r *Recording) saveLater() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.timer = nil
	_ = r.save() // what cannot be written now may be later, and is at the end
}

// save writes the document.
func (r *Recording) save() error {
	r.saved = time.Now()
	data, err := encodeDocument(&r.build)
	if err != nil {
		return err
	}
	temp, err := r.store.store.Temp()
	if err != nil {
		return err
	}
	name := filepath.Join(temp, "build-"+r.build.ID+".new")
	err = os.WriteFile(name, data, 0o600)
	if err == nil {
		err = os.Rename(name, r.store.path(r.build.ID, documentFile))
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}

// End says how the build ended, makes that durable enough for whatever but a power
// failure, and forgets builds that exceed [DefaultLimits]. An error says that the
// build is not remembered, or that others could not be forgotten.
func (r *Recording) End(status Status, failure error, images []Image) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
	logged := r.log.size > 0
	r.log.close()
	b := &r.build
	b.Status, b.Ended, b.Images = status, time.Now().UTC(), images
	if failure != nil {
		b.Error = failure.Error()
	}
	b.settle()
	err := r.keep()
	os.Remove(r.store.path(b.ID, lockFile))
	r.lock.Close()
	if err != nil {
		r.store.Remove(b.ID)
		return fmt.Errorf("remember the build: %w", err)
	}
	return r.store.trim(b.Ended, DefaultLimits, logged)
}

// keep saves the build and, if there is no space for that, gives up its log.
func (r *Recording) keep() error {
	err := r.save()
	if err == nil || (!errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT)) {
		return err
	}
	os.Remove(r.store.path(r.build.ID, logFile))
	r.build.LogEnds = err.Error()
	return r.save()
}
