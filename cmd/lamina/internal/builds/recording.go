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

	mu    sync.Mutex
	doc   *os.File // as it was saved last; locked
	build Build
	steps map[solver.ID]int // where the nodes are in build.Steps
	log   logWriter
	saved time.Time
	cost  time.Duration // of saving
	timer *time.Timer   // saves later; nil if there is nothing to be saved
	over  bool

	trouble error // why builds that exceed the limits could not be forgotten
}

// The document of a running build is written saveInterval after it has changed, and
// when a step begins, if that takes less than one part in saveShare of the time.
const (
	saveInterval = time.Second
	saveShare    = 20
)

// Begin begins to remember b, a build that begins now, and forgets builds that exceed
// [DefaultLimits] with it; the caller must call [Recording.End]. b says what was
// asked for.
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

// publish makes the directory of the build.
func (r *Recording) publish() error {
	temp, err := r.store.store.Temp()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temp, "build-")
	if err != nil {
		return err
	}
	if err := r.place(dir); err != nil {
		cache.RemoveAll(dir)
		return err
	}
	return nil
}

// place gives the build in dir an ID that no other has, and with that its place.
func (r *Recording) place(dir string) error {
	at := r.build.Started
	for {
		ids, err := r.store.IDs()
		if err != nil {
			return err
		}
		r.build.ID = nextID(at, ids)
		doc, err := r.write(filepath.Join(dir, documentFile), true)
		if err != nil {
			return err
		}
		err = os.Rename(dir, r.store.path(r.build.ID))
		if err == nil {
			r.doc, r.saved = doc, time.Now()
			r.trouble = r.store.forget(r.saved, DefaultLimits(), append([]string{r.build.ID}, ids...))
			return nil
		}
		doc.Close()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := os.Mkdir(r.store.store.Path(storeDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		case errors.Is(err, fs.ErrExist): // which is also that a directory is not empty
			at = at.Add(idTick)
		default:
			return err
		}
	}
}

// write writes the document to the file name. If it is to be locked, that lets others
// see that the build goes on, until the file is closed.
func (r *Recording) write(name string, locked bool) (*os.File, error) {
	data, err := encodeDocument(&r.build)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil && locked {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		os.Remove(name)
		return nil, err
	}
	return f, nil
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

// save replaces the document.
func (r *Recording) save() error {
	begin := time.Now()
	defer func() { r.saved, r.cost = time.Now(), time.Since(begin) }()
	temp, err := r.store.store.Temp()
	if err != nil {
		return err
	}
	name := filepath.Join(temp, "build-"+r.build.ID+".new")
	doc, err := r.write(name, !r.over)
	if err != nil {
		return err
	}
	if err := os.Rename(name, r.store.path(r.build.ID, documentFile)); err != nil {
		doc.Close()
		os.Remove(name)
		return err
	}
	r.doc.Close()
	r.doc = doc
	return nil
}

// End says how the build ended. An error says that the build is not remembered, or
// that what exceeds [DefaultLimits] could not be removed.
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
	r.doc.Close()
	if err != nil {
		r.store.Remove(b.ID)
		return fmt.Errorf("remember the build: %w", err)
	}
	if logged {
		r.trouble = errors.Join(r.trouble, r.store.trimLogs(DefaultLimits().Logs))
	}
	if r.trouble != nil {
		return fmt.Errorf("forget old builds: %w", r.trouble)
	}
	return nil
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
