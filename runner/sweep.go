package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// Sweep implements [Runner].
func (r *containers) Sweep(ctx context.Context) error {
	names, err := os.ReadDir(r.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep containers: %w", err)
	}
	var errs []error
	for _, e := range names {
		id, ok := strings.CutSuffix(e.Name(), ".lock")
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := r.sweep(id); err != nil {
			errs = append(errs, fmt.Errorf("sweep container %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (r *containers) sweep(id string) error {
	b := bundle{id: id, dir: filepath.Join(r.state, id), cgroup: cgroupName(r.state, id)}
	lock, err := lockFile(b.dir + ".lock")
	if errors.Is(err, errInUse) {
		return nil
	}
	if err != nil {
		return err
	}
	b.lock = lock
	if err := b.clean(); err != nil {
		return errors.Join(err, lock.Close())
	}
	r.log.Debug("dead container removed", "id", id)
	return b.remove()
}

// destroyTimeout bounds how long killed processes may take to end: what waits
// for a device or a dead file server ends when that answers.
const destroyTimeout = 10 * time.Second

// destroyCgroups kills every process in the control groups and removes them.
func destroyCgroups(name string, paths map[string]string) error {
	m, err := manager.NewWithPaths(&cgroups.Cgroup{Path: name, Resources: &cgroups.Resources{}}, paths)
	if err != nil {
		return err
	}
	for end := time.Now().Add(destroyTimeout); m.Exists(); {
		pids, err := m.GetAllPids()
		if errors.Is(err, fs.ErrNotExist) || len(pids) == 0 {
			break
		}
		if err != nil {
			return err
		}
		// Killing all at once beats a fork: a process forked meanwhile is found in
		// the next round.
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("killed processes %v do not end", pids)
		}
		time.Sleep(time.Millisecond)
	}
	return m.Destroy()
}
