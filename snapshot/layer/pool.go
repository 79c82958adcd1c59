package layer

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Pool is a directory of layers. Any number of goroutines and processes may use
// one at the same time.
type Pool struct {
	dir  string
	root *os.File // dir, for openat
	tmp  func() (string, error)
	boot string // identifies this boot of the machine; empty if nothing does

	mu       sync.Mutex
	dirs     map[snapshot.ID]*Dir
	unsynced map[snapshot.ID]bool // published, maybe not on the disk yet
}

// OpenPool opens the pool in dir, which is made if it does not exist. tmp returns
// a directory on the same filesystem for what is not yet published; it is asked
// for when it is first needed, and whoever owns it removes what is left in it
// after this process has died.
func OpenPool(dir string, tmp func() (string, error)) (*Pool, error) {
	// Nobody else may come near the set-user-ID programs and devices of images.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Pool{
		dir:      dir,
		root:     root,
		tmp:      tmp,
		boot:     bootID(),
		dirs:     map[snapshot.ID]*Dir{},
		unsynced: map[snapshot.ID]bool{},
	}, nil
}

// path returns the path of a file of the layer id, or of all of it.
func (p *Pool) path(id snapshot.ID, elem ...string) string {
	return filepath.Join(append([]string{p.dir, string(id)}, elem...)...)
}

// tempDir makes a directory for something that is not published yet.
func (p *Pool) tempDir() (string, error) {
	tmp, err := p.tmp()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(tmp, "layer-")
}

// Open returns the published layer id. One that is missing, or may have been
// damaged by a power failure, is fs.ErrNotExist.
func (p *Pool) Open(id snapshot.ID) (*Dir, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	fd, err := openBeneath(int(p.root.Fd()), string(id)+"/fs", unix.O_PATH|unix.O_DIRECTORY)
	runtime.KeepAlive(p)
	if err != nil {
		err = missing("open layer", string(id), err)
		if errors.Is(err, fs.ErrNotExist) {
			p.forget(id)
		}
		return nil, err
	}
	unix.Close(fd)
	if err := p.checkMark(id); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.dirs[id]
	if d == nil {
		d = newDir(p, id)
		p.dirs[id] = d
	}
	return d, nil
}

// ErrTorn reports a layer that a power failure may have damaged. [Pool.Open] removes
// it.
var ErrTorn = errors.New("the power failed before the layer was on the disk")

// Peek is Open for who only looks: a layer that Open would remove is [ErrTorn], and
// what was read of the layer before is read again.
func (p *Pool) Peek(id snapshot.ID) (*Dir, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	st, err := os.Lstat(p.path(id, "fs"))
	if err == nil && !st.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, missing("open layer", string(id), err)
	}
	boot, err := readMark(p.path(id, markName))
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	if boot != "" && boot != p.boot {
		return nil, fmt.Errorf("layer %s: %w", id, ErrTorn)
	}
	return newDir(p, id), nil
}

// Find returns the layer whose diff ID is diffID, or fs.ErrNotExist.
func (p *Pool) Find(diffID digest.Digest) (snapshot.ID, error) {
	if err := diffID.Validate(); err != nil {
		return "", fmt.Errorf("find layer %q: %w", diffID, err)
	}
	id := DiffIDName(diffID)
	_, err := p.Open(id)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	target, linkErr := os.Readlink(p.path(id))
	if linkErr != nil {
		return "", err
	}
	if _, err := p.Open(snapshot.ID(target)); err != nil {
		return "", err
	}
	return snapshot.ID(target), nil
}

// Adopt publishes the directory fsdir, which was the upper directory of an
// overlay on the pool's filesystem and is nobody's any more, as layer id. It is
// moved, not copied; if the layer is published already, that one wins and fsdir
// is removed. The directories named implied (see [Draft.Implied]) count as such.
func (p *Pool) Adopt(fsdir string, id snapshot.ID, implied ...string) error {
	if err := checkID(id); err != nil {
		return err
	}
	tmp, err := p.tempDir()
	if err != nil {
		return err
	}
	err = moveDir(fsdir, filepath.Join(tmp, "fs"))
	if err == nil {
		err = writeNames(filepath.Join(tmp, "implied"), slices.Clone(implied))
	}
	if err == nil {
		err = p.publish(tmp, id)
	}
	if err != nil {
		removeAll(tmp)
		return fmt.Errorf("adopt layer %s: %w", id, err)
	}
	return nil
}

// moveDir renames a directory whose mode may forbid to: to move it to another
// parent is to write to it.
func moveDir(from, to string) error {
	err := unix.Rename(from, to)
	if err != unix.EACCES {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	if err := unix.Chmod(from, st.Mode&0o7777|0o700); err != nil {
		return err
	}
	if err := unix.Rename(from, to); err != nil {
		return err
	}
	return unix.Chmod(to, st.Mode&0o7777)
}

// List returns the IDs of all published layers, sorted.
func (p *Pool) List() ([]snapshot.ID, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	var ids []snapshot.ID
	for _, e := range entries {
		if id := snapshot.ID(e.Name()); e.IsDir() && checkID(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Remove removes a layer; a missing one is no error. Nobody may be using it.
func (p *Pool) Remove(id snapshot.ID) error {
	if err := checkID(id); err != nil {
		return err
	}
	if info, err := newDir(p, id).Info(); err == nil && info.DiffID.Validate() == nil {
		alias := p.path(DiffIDName(info.DiffID))
		if target, err := os.Readlink(alias); err == nil && target == string(id) {
			os.Remove(alias)
		}
	}
	tmp, err := p.unpublish(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return removeAll(tmp)
}

// unpublish takes the layer id away, to a temporary directory.
func (p *Pool) unpublish(id snapshot.ID) (string, error) {
	tmp, err := p.tempDir()
	if err != nil {
		return "", err
	}
	p.forget(id)
	if err := unix.Rename(p.path(id), tmp); err != nil { // replaces tmp, which is empty
		os.Remove(tmp)
		return "", err
	}
	return tmp, nil
}

func (p *Pool) forget(id snapshot.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.dirs, id)
	delete(p.unsynced, id)
}

// SetInfo replaces what is known of the layer id, atomically, and lets [Pool.Find]
// find it by info.DiffID.
func (p *Pool) SetInfo(id snapshot.ID, info Info) error {
	if _, err := p.Open(id); err != nil {
		return err
	}
	tmp, err := p.tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, infoName)
	data, err := encodeInfo(info)
	if err != nil {
		return err
	}
	err = writeNew(file, func(w *bufio.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Rename(file, p.path(id, infoName)); err != nil {
		return err
	}
	if info.DiffID == "" {
		return nil
	}
	if err := info.DiffID.Validate(); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return p.alias(id, DiffIDName(info.DiffID), filepath.Join(tmp, "alias"))
}

// alias makes name find the layer id, unless it finds a layer already.
func (p *Pool) alias(id, name snapshot.ID, tmp string) error {
	if name == id {
		return nil
	}
	err := os.Symlink(string(id), p.path(name))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	target, err := os.Readlink(p.path(name))
	if err != nil {
		return nil // the layer itself
	}
	if _, err := p.Open(snapshot.ID(target)); err == nil {
		return nil
	}
	if err := os.Symlink(string(id), tmp); err != nil {
		return err
	}
	return os.Rename(tmp, p.path(name))
}

// Stack returns the layers ids, lowest first, as one tree. It reads nothing but
// what it is asked for. A missing layer is fs.ErrNotExist.
func (p *Pool) Stack(ids []snapshot.ID) (*Stack, error) {
	s := &Stack{dirs: map[string]*merged{}}
	for _, id := range ids {
		d, err := p.Open(id)
		if err != nil {
			return nil, err
		}
		s.layers, s.parts = append(s.layers, d), append(s.parts, d)
	}
	return s, nil
}
