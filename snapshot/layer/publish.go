package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// A layer is thousands of files. To fsync each before it is published costs more
// than to make them, so publication is only a rename, which every process sees
// whole at once. What it does not survive is a power failure, and so a new layer
// carries a mark that names the boot of the machine during which it was made:
//
//	published:      layers/<id>/unsynced = this boot
//	Sync:           syncfs, then the marks go
//	power failure:  layers/<id>/unsynced = another boot: the layer is removed
const markName = "unsynced"

// bootID returns what identifies this boot of the machine, or nothing where the
// kernel does not say.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// publish makes the directory tmp layer id. If there is one, that one wins, and
// tmp is removed.
func (p *Pool) publish(tmp string, id snapshot.ID) error {
	if err := p.mark(tmp); err != nil {
		return err
	}
	for range 3 { // others may publish or remove the same layer meanwhile
		err := unix.Rename(tmp, p.path(id))
		switch err {
		case nil:
			p.published(id)
			return nil
		case unix.ENOTDIR: // an alias by diff ID: the same content by another name
			if err := os.Remove(p.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case unix.EEXIST, unix.ENOTEMPTY:
			if _, err := p.Open(id); err == nil {
				return removeAll(tmp)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			// A damaged one: Open has removed it, or its files are gone.
			if err := p.clear(id); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return fmt.Errorf("%s is in the way", p.path(id))
}

// clear removes what is left of the layer id, whose files are gone.
func (p *Pool) clear(id snapshot.ID) error {
	rest, err := p.unpublish(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Another process may have published the layer since we looked.
	if _, err := os.Lstat(filepath.Join(rest, "fs")); err == nil && unix.Rename(rest, p.path(id)) == nil {
		return nil
	}
	return removeAll(rest)
}

func (p *Pool) published(id snapshot.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.dirs, id)
	if p.boot != "" {
		p.unsynced[id] = true
	}
}

// mark marks the layer in tmp as one that a power failure would damage. Where the
// boot has no name, it sees to it that none would.
func (p *Pool) mark(tmp string) error {
	if p.boot == "" {
		return p.syncfs()
	}
	return os.WriteFile(filepath.Join(tmp, markName), []byte(p.boot+"\n"), 0o600)
}

// checkMark removes the layer id and returns fs.ErrNotExist if a power failure
// may have damaged it.
func (p *Pool) checkMark(id snapshot.ID) error {
	boot, err := readMark(p.path(id, markName))
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	switch boot {
	case "":
		return nil
	case p.boot:
		// Whoever published it may be gone; our Sync is as good as theirs.
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unsynced[id] = true
		return nil
	}
	tmp, err := p.unpublish(id)
	if err != nil {
		return missing("open layer", string(id), err)
	}
	// Another process may have replaced the layer since we read its mark.
	if again, err := readMark(filepath.Join(tmp, markName)); err == nil && again != boot {
		if unix.Rename(tmp, p.path(id)) == nil {
			return nil
		}
	}
	removeAll(tmp)
	return notExist("open layer", string(id))
}

// readMark returns the boot that the mark names, nothing if there is no mark.
func readMark(mark string) (string, error) {
	b, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if boot := strings.TrimSpace(string(b)); boot != "" {
		return boot, nil
	}
	return "unknown", nil // the mark itself was torn
}

// Sync makes every layer that this process published or opened survive a power failure.
// Until then a layer is only known to survive the death of processes. The pool
// can be used meanwhile.
func (p *Pool) Sync() error {
	p.mu.Lock()
	ids := slices.Collect(maps.Keys(p.unsynced))
	p.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if err := p.syncfs(); err != nil {
		return err
	}
	for _, id := range ids {
		if err := os.Remove(p.path(id, markName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		delete(p.unsynced, id)
	}
	return nil
}

func (p *Pool) syncfs() error {
	defer runtime.KeepAlive(p)
	if err := unix.Syncfs(int(p.root.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", p.dir, err)
	}
	return nil
}

// removeAll is os.RemoveAll, also of directories whose modes forbid it, which a
// process in a container is free to make.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// WalkDir opens a directory after the call for it.
	filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
