package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// bundle is the directory of one container while it runs:
//
//	<state>/<id>.lock      flock of the process that runs it
//	<state>/<id>/cgroups   JSON: its control groups by controller, for Sweep
//	<state>/<id>/root      mount point of the root filesystem, empty to others
//	<state>/<id>/roots/…   mount points of Spec.Roots
//	<state>/<id>/stage/<n> mount point of the nth of Spec.Mounts
//	<state>/<id>/memory/…  a tmpfs with Spec.Files
//	<state>/<id>/hosts …   the network's files
//	<state>/<id>/run/<id>  libcontainer's own state
type bundle struct {
	id      string
	dir     string
	root    string
	lock    *os.File
	self    string            // this program
	cgroup  string            // name of the control groups
	cgroups map[string]string // their paths
}

func (b bundle) stage(i int) string { return filepath.Join(b.dir, "stage", strconv.Itoa(i)) }
func (b bundle) run() string        { return filepath.Join(b.dir, "run") }

// newBundle claims id in the directory state. Its control groups will be in parent,
// see [Limits].
func newBundle(state, id, parent string) (_ bundle, err error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return bundle{}, err
	}
	b := bundle{id: id, dir: filepath.Join(state, id), cgroup: cgroupName(state, id)}
	if parent != "" {
		b.cgroup = path.Join("/", parent, b.cgroup)
	}
	b.root = filepath.Join(b.dir, "root")
	if b.lock, err = lockFile(b.dir + ".lock"); err != nil {
		return bundle{}, fmt.Errorf("container %s: %w", id, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.remove())
		}
	}()
	// Whoever had the lock before died, or it would not be ours.
	if err := b.clean(); err != nil {
		return bundle{}, err
	}
	if err := os.Mkdir(b.dir, 0o711); err != nil { // a container's user passes through it
		return bundle{}, err
	}
	if err := os.Mkdir(b.root, 0o755); err != nil {
		return bundle{}, err
	}
	m, err := manager.New(&cgroups.Cgroup{Path: b.cgroup, Resources: &cgroups.Resources{}})
	if err != nil {
		return bundle{}, fmt.Errorf("control groups: %w", err)
	}
	b.cgroups = m.GetPaths()
	text, err := json.Marshal(b.cgroups)
	if err != nil {
		return bundle{}, err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "cgroups"), text, 0o600); err != nil {
		return bundle{}, err
	}
	b.self, err = os.Readlink("/proc/self/exe")
	return b, err
}

// remove deletes the bundle and gives its lock back. Nothing may be running or
// mounted in it.
func (b bundle) remove() error {
	err := os.RemoveAll(b.dir)
	if err == nil {
		err = os.Remove(b.lock.Name())
	}
	return errors.Join(err, b.lock.Close())
}

// clean kills what runs in the bundle's control groups, and removes these and
// the bundle's directory. The caller has the lock.
func (b bundle) clean() error {
	text, err := os.ReadFile(filepath.Join(b.dir, "cgroups"))
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(b.dir) // nothing had been started yet
	}
	if err != nil {
		return err
	}
	var paths map[string]string
	if err := json.Unmarshal(text, &paths); err == nil && len(paths) > 0 { // torn text: died before it started anything
		if err := destroyCgroups(b.cgroup, paths); err != nil {
			return fmt.Errorf("container %s: %w", b.id, err)
		}
	}
	return os.RemoveAll(b.dir)
}

// cgroupName is the name of a container's control groups, which the whole machine
// shares: it tells apart stores that use one ID.
func cgroupName(state, id string) string {
	sum := sha256.Sum256([]byte(state))
	return "lamina-" + id + "-" + hex.EncodeToString(sum[:4])
}

// errInUse reports that a living process has the lock.
var errInUse = errors.New("in use by a living process")

// lockFile takes the lock that the file name stands for, without waiting, and
// makes the file if it is missing. The lock ends with the process.
func lockFile(name string) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errInUse
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		// The file may have been removed between open and flock: a lock on what
		// nobody can find any more excludes nobody.
		ours, err1 := f.Stat()
		there, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(ours, there) {
			return f, nil
		}
		f.Close()
		if err := errors.Join(err1, err2); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}
