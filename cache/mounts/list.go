package mounts

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Info is what is known of a mount.
type Info struct {
	// Name is the mount's directory in mounts/.
	Name string
	Spec Spec
	// Copy is true of a further directory of a "private" mount.
	Copy    bool
	Created time.Time // zero if it is not known
	Used    time.Time // by a step, or when it was made
	Step    string    // that used it last
	Sharing string    // that step's: shared, private or locked; empty if it is not known
	InUse   bool
	// Files is the number of files, Size that of their bytes, and Disk that of bytes
	// on the disk.
	Files int
	Size  int64
	Disk  int64
	// Version tells that it came from a cache, or was sent to one.
	Version bool
}

// List describes all mounts, the least recently used last. What cannot be read of
// them, or is being removed, is left out.
func (m Mounts) List(ctx context.Context) ([]Info, error) {
	dirs, err := os.ReadDir(m.store.Path("mounts"))
	if err != nil {
		return nil, err
	}
	var all []Info
	for _, d := range dirs {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		info, err := m.info(ctx, d.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	slices.SortStableFunc(all, func(a, b Info) int { return b.Used.Compare(a.Used) })
	return all, nil
}

func (m Mounts) info(ctx context.Context, name string) (Info, error) {
	dir := m.Dir(name)
	a, err := readAbout(dir)
	if err != nil {
		return Info{}, err
	}
	i := Info{Name: name, Spec: a.Spec, Copy: strings.Contains(name, "-"), Created: a.Created, Step: a.Step, Sharing: a.Sharing, Version: a.Version != ""}
	if i.Used, err = LastUsed(dir); err != nil {
		return Info{}, err
	}
	i.InUse = m.inUse(ctx, name)
	return i, i.count(m.Data(name))
}

// inUse tells whether somebody holds a lock on the mount.
func (m Mounts) inUse(ctx context.Context, name string) bool {
	release, err := m.Alone(ctx, name, false)
	if err != nil {
		return errors.Is(err, ErrInUse)
	}
	release()
	return false
}

// count adds up the files of a mount. Names of one file count once, and what
// vanishes meanwhile does not.
func (i *Info) count(data string) error {
	seen := map[uint64]bool{}
	return filepath.WalkDir(data, func(name string, e fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(name, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Type().IsRegular() {
			i.Files++
		}
		if st.Nlink > 1 && !e.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		const block = 512 // of stat(2), whatever the filesystem's blocks are
		i.Disk += st.Blocks * block
		if e.Type().IsRegular() {
			i.Size += st.Size
		}
		return nil
	})
}

// Find returns the mounts that ref means: those of this id or, if none has it, those
// whose names begin with it, so that each of several mounts with one id can be named.
func Find(all []Info, ref string) []Info {
	var byID, byName []Info
	for _, i := range all {
		if i.Spec.ID == ref && !i.Copy {
			byID = append(byID, i)
		}
		if i.Name == ref {
			return []Info{i}
		}
		if len(ref) >= minPrefix && strings.HasPrefix(i.Name, ref) {
			byName = append(byName, i)
		}
	}
	if len(byID) > 0 {
		return byID
	}
	return byName
}

// minPrefix is the least number of digits that name a mount.
const minPrefix = 4
