package layer

import (
	"io"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Lstat implements [snapshot.Tree].
func (d *Draft) Lstat(name string) (snapshot.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	it, err := d.files().lstat(name)
	if err == nil && it.Whiteout {
		err = notExist("lstat", name)
	}
	if err != nil {
		return snapshot.Entry{}, err
	}
	return d.draftEntry(name, it.Entry), nil
}

// ReadDir implements [snapshot.Tree].
func (d *Draft) ReadDir(name string) ([]snapshot.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	items, err := d.files().list(name)
	if err != nil {
		return nil, err
	}
	es := entries(items)
	for i, e := range es {
		es[i] = d.draftEntry(join(name, e.Name), e)
	}
	return es, nil
}

// draftEntry gives e the attributes that it will have if it is a directory.
func (d *Draft) draftEntry(name string, e snapshot.Entry) snapshot.Entry {
	if dir := d.dirs[name]; dir != nil && e.Kind == snapshot.Dir {
		e.UID, e.GID = dir.entry.UID, dir.entry.GID
		e.Mode, e.ModTime = dir.entry.Mode&0o7777, modTime(dir.entry)
	}
	return e
}

// Open implements [snapshot.Tree].
func (d *Draft) Open(name string) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.files().openFile(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Xattrs implements [snapshot.Tree].
func (d *Draft) Xattrs(name string) (map[string]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files()
	if it, err := f.lstat(name); err != nil {
		return nil, err
	} else if it.Whiteout {
		return nil, notExist("xattrs", name)
	}
	return f.xattrs(name)
}

func (d *Draft) files() files {
	return files{
		open: func(name string, flags int) (int, error) {
			dir, base := split(name)
			at, err := d.fds.get(dir)
			if err != nil {
				return -1, err
			}
			return openBeneath(at, base, flags)
		},
		stat: func(name string, st *unix.Stat_t) error {
			dir, base := split(name)
			at, err := d.fds.get(dir)
			if err != nil {
				return err
			}
			return unix.Fstatat(at, base, st, unix.AT_SYMLINK_NOFOLLOW)
		},
		record:  func(name string) *record { return d.records[name] },
		implied: func(name string) bool { return d.dirs[name] != nil && d.dirs[name].implied },
	}
}
