package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Claim is the part of a store that one process uses.
type Claim struct {
	// By says who that is, for people: "container 0123456789ab".
	By string `json:"by"`
	// Paths are what it uses, relative to the store's directory.
	Paths []string `json:"paths"`
}

// claimFile is a process's claim, in its temporary directory, and lasts as long as
// the lock on that.
const claimFile = "claim"

// UseOnly gives up what [Store.Use] claimed but for c: from then on others may
// collect what is not in it. It lasts until Close. A process that runs for days
// thus keeps nobody from anything.
func (s *Store) UseOnly(c Claim) error {
	dir, err := s.Temp()
	if err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, claimFile)
	err = os.WriteFile(path+".new", data, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("claim a part of the store: %w", err)
	}
	if s.use != nil {
		s.use()
		s.use = nil
	}
	return nil
}

// Claims returns the claims of living processes. They are all there are, and stay, only while
// the caller has the store exclusively.
func (s *Store) Claims() ([]Claim, error) {
	entries, err := os.ReadDir(s.Path("tmp"))
	if err != nil {
		return nil, err
	}
	var all []Claim
	for _, e := range entries {
		name, isLock := strings.CutSuffix(e.Name(), ".lock")
		if !isLock || !lives(s.tempPath(e.Name())) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.tempPath(name), claimFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c Claim
		if err == nil {
			err = json.Unmarshal(data, &c)
		}
		if err != nil {
			return nil, fmt.Errorf("claim of %s: %w", name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// lives tells whether somebody has the lock.
func lives(lock string) bool {
	f, err := os.OpenFile(lock, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(f, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// SweepLocks removes the lock files that killed processes left.
func (s *Store) SweepLocks() error {
	entries, err := os.ReadDir(s.Path("locks"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := s.Path("locks", e.Name())
		if e.Name() == "store" || e.Name() == indexFile {
			continue // are never removed
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue // its holder removed it
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil && isFileAt(f, path) {
			os.Remove(path)
		}
		f.Close()
	}
	return nil
}
