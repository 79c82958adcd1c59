// Package mounts keeps the cache mounts of RUN: directories that outlive builds.
//
//	mounts/<name>/id           what the Dockerfile calls it, for people
//	mounts/<name>/about.json   which mount it is, who used it, where it came from
//	mounts/<name>/data         what is mounted: a directory, or what its source is
//	mounts/<name>/sums         digests of its files when it was last looked at
//
// The name follows from a [Spec], in the same way on every machine. A "private"
// mount that is taken gets another directory, <name>-1, <name>-2, …, which never
// travels. The modification time of mounts/<name> is when a step last used it.
//
// Whoever works on a mount holds a shared flock(2) on its directory ([Mounts.Use]);
// whoever removes or replaces it holds it alone ([Mounts.Alone]). What is published
// is made elsewhere and renamed, so a mount is there as a whole or not at all.
//
// A mount travels as a [Version]: a [Tree], which tells all names and attributes and
// the digest of each file's content, and packs, archives of such contents. A later
// version shares the packs of an earlier one, so that only new contents are sent.
package mounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"lamina/cache"
)

// Mounts are the cache mounts of a store.
type Mounts struct{ store *cache.Store }

// In returns the cache mounts of store.
func In(store *cache.Store) Mounts { return Mounts{store} }

// Spec says which mount it is: the same id with another owner, mode or origin is
// another mount, as its first content would be another.
type Spec struct {
	ID    string `json:"id"`
	Attrs *Attrs `json:"attrs,omitempty"`
	// From is the identity of the tree that a new one starts from, and Source the
	// path in it; empty if it starts from nothing.
	From   string `json:"from,omitempty"`
	Source string `json:"source,omitempty"`
}

// Attrs are those of the directory that a new mount starts as.
type Attrs struct {
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

func (a *Attrs) String() string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("%o %d %d", a.Mode, a.UID, a.GID)
}

// Name is the name of the mount's directory, 32 hexadecimal digits.
func (s Spec) Name() string {
	d := digest.FromString(fmt.Sprintf("%q %q %q %q", s.ID, s.Attrs, s.From, s.Source))
	return d.Encoded()[:32]
}

// about is the file about.json.
type about struct {
	Spec    Spec      `json:"spec"`
	Created time.Time `json:"created,omitzero"`
	// Step is the last step that used it, and Sharing how.
	Step    string `json:"step,omitempty"`
	Sharing string `json:"sharing,omitempty"`
	// Version is the one that it was made from, or was sent as, and Packed when that
	// was packed; empty if it never travelled.
	Version digest.Digest `json:"version,omitempty"`
	Packed  time.Time     `json:"packed,omitzero"`
}

// Dir is the directory mounts/<name>.
func (m Mounts) Dir(name string) string { return m.store.Path("mounts", name) }

// Data is what is mounted of it.
func (m Mounts) Data(name string) string { return filepath.Join(m.Dir(name), "data") }

// Use keeps the mount name from being removed or replaced until release is called.
// It waits for those who do that, and is fs.ErrNotExist if there is no such mount.
func (m Mounts) Use(ctx context.Context, name string) (release func(), err error) {
	f, err := m.lock(ctx, name, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// ErrInUse reports a mount that a step is using.
var ErrInUse = errors.New("the cache mount is in use")

// Alone keeps everybody else from the mount until release is called. With wait it
// waits for them to end, else it is ErrInUse. It is fs.ErrNotExist if there is no
// such mount.
func (m Mounts) Alone(ctx context.Context, name string, wait bool) (release func(), err error) {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	f, err := m.lock(ctx, name, how)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lock locks the directory of the mount, as it is by then. It waits in short naps:
// flock(2) cannot be interrupted by a context.
func (m Mounts) lock(ctx context.Context, name string, how int) (*os.File, error) {
	for nap := time.Millisecond; ; nap = min(2*nap, 100*time.Millisecond) {
		f, err := os.Open(m.Dir(name))
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if (err == nil || how == unix.LOCK_SH && isUnsupported(err)) && sameFile(f, m.Dir(name)) {
			return f, nil
		}
		f.Close()
		switch {
		case err == nil || err == unix.EINTR: // replaced while we waited
			continue
		case err != unix.EWOULDBLOCK:
			return nil, fmt.Errorf("lock cache mount %s: %w", name, err)
		case how&unix.LOCK_NB != 0:
			return nil, ErrInUse
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(nap):
		}
	}
}

// isUnsupported tells whether a filesystem, of a network for example, has no locks of
// directories. Then mounts can be used there, but not replaced nor removed.
func isUnsupported(err error) bool {
	return err == unix.EBADF || err == unix.EINVAL || err == unix.EISDIR || err == unix.ENOLCK || err == unix.EOPNOTSUPP
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// Make makes the mount name of this spec, if it is not there: fill makes what is to
// be mounted, at the path it is given. Of two who make the same one wins.
func (m Mounts) Make(name string, spec Spec, fill func(data string) error) error {
	if isThere(m.Data(name)) {
		return nil
	}
	return m.publish(name, about{Spec: spec}, fill, func(made, dir string) error {
		err := os.Rename(made, dir)
		if err != nil && isThere(m.Data(name)) {
			return nil
		}
		return err
	})
}

// Replace makes the mount name anew, as Make does, whatever it was before. The
// caller must have it alone, unless there is none. After an error it is what it was.
func (m Mounts) Replace(name string, spec Spec, fill func(data string) error) error {
	return m.replace(name, about{Spec: spec}, fill)
}

func (m Mounts) replace(name string, a about, fill func(data string) error) error {
	return m.publish(name, a, fill, func(made, dir string) error {
		if !isThere(dir) {
			return os.Rename(made, dir)
		}
		// What is at made afterwards is the old one, which the caller removes.
		return exchange(made, dir)
	})
}

// exchange swaps two directories.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// A filesystem that cannot: whoever is killed in between leaves no mount, which
	// is a mount that was not made yet.
	old := a + "-old"
	if err := os.Rename(b, old); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(old, b))
	}
	return os.Rename(old, a)
}

// publish makes the directory of a mount and has place put it where it belongs.
func (m Mounts) publish(name string, a about, fill func(data string) error, place func(made, dir string) error) error {
	tmp, err := m.store.Temp()
	if err != nil {
		return err
	}
	made, err := os.MkdirTemp(tmp, "mount-")
	if err != nil {
		return err
	}
	defer func() { _ = cache.RemoveAll(made) }() // what is left there is nobody's
	if err := os.WriteFile(filepath.Join(made, "id"), []byte(a.Spec.ID+"\n"), 0o600); err != nil {
		return err
	}
	if err := fill(filepath.Join(made, "data")); err != nil {
		return err
	}
	a.Created = time.Now().UTC().Truncate(time.Second)
	if err := writeAbout(made, a); err != nil {
		return err
	}
	return place(made, m.Dir(name))
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Used notes that step uses the mount name of this spec now, with this sharing. That it
// fails is no loss: it is for people, and for who removes what nobody uses.
func (m Mounts) Used(name string, spec Spec, step, sharing string) {
	dir := m.Dir(name)
	a, err := readAbout(dir)
	if err != nil || a.Step != step || a.Sharing != sharing || a.Spec.Name() != spec.Name() {
		a.Spec, a.Step, a.Sharing = spec, step, sharing
		_ = writeAbout(dir, a)
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
}

// LastUsed is when a step last used the mount in this directory of mounts/.
func LastUsed(dir string) (time.Time, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

// Remove removes the mount name, which the caller must have alone.
func (m Mounts) Remove(name string) error {
	tmp, err := m.store.Temp()
	if err != nil {
		return err
	}
	gone, err := os.MkdirTemp(tmp, "mount-")
	if err != nil {
		return err
	}
	if err := os.Rename(m.Dir(name), filepath.Join(gone, name)); err != nil {
		return errors.Join(err, os.Remove(gone))
	}
	return cache.RemoveAll(gone)
}

// readAbout reads what is known of a mount; of one that an earlier lamina made, its id.
func readAbout(dir string) (about, error) {
	var a about
	data, err := os.ReadFile(filepath.Join(dir, "about.json"))
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err == nil && a.Spec.ID != "" {
		return a, nil
	}
	id, err := os.ReadFile(filepath.Join(dir, "id"))
	if err != nil {
		return about{}, err
	}
	return about{Spec: Spec{ID: trimLine(id)}}, nil
}

func trimLine(b []byte) string {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	return string(b)
}

// writeAbout replaces about.json, and leaves the directory's time alone.
func writeAbout(dir string, a about) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return writeBeside(dir, "about.json", data)
}

// writeBeside replaces a file beside the data of a mount.
func writeBeside(dir, name string, data []byte) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, name+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Chtimes(dir, st.ModTime(), st.ModTime())
}

// errMissing is a miss with a hint.
func errMissing(what string) error { return fmt.Errorf("%s: %w", what, fs.ErrNotExist) }
