package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Dir is a published layer. It does not change, and is safe for concurrent use.
// Names are as in a [snapshot.Tree], and likewise no method follows a link.
type Dir struct {
	id   snapshot.ID
	pool *Pool
	side func() (sidecar, error) // read when it is first needed
	all  func() (files, error)   // likewise
}

// sidecar is what the files beside a layer say of its attributes.
type sidecar struct {
	records map[string]*record
	implied []string // sorted
	visible bool     // some record is
}

func newDir(p *Pool, id snapshot.ID) *Dir {
	d := &Dir{id: id, pool: p}
	d.side = sync.OnceValues(d.readSidecar)
	d.all = sync.OnceValues(d.files)
	return d
}

func (d *Dir) readSidecar() (s sidecar, err error) {
	if s.records, err = readRecords(d.pool.path(d.id, "attrs")); err != nil {
		return s, fmt.Errorf("layer %s: %w", d.id, err)
	}
	for _, r := range s.records {
		s.visible = s.visible || r.visible()
	}
	if s.implied, err = readNames(d.pool.path(d.id, "implied")); err != nil {
		return s, fmt.Errorf("layer %s: %w", d.id, err)
	}
	return s, nil
}

// ID returns the layer's name.
func (d *Dir) ID() snapshot.ID { return d.id }

// Path returns the directory with the layer's files, in overlay's form.
func (d *Dir) Path() string { return d.pool.path(d.id, "fs") }

// Info returns what is known of the layer: nothing, the zero Info, is no error. Nor is
// what was damaged: all of it can be computed again.
func (d *Dir) Info() (Info, error) {
	info, err := d.readInfo()
	if errors.Is(err, errInfoDamaged) {
		return Info{}, nil
	}
	return info, err
}

func (d *Dir) readInfo() (Info, error) {
	b, err := os.ReadFile(d.pool.path(d.id, infoName))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, nil
	}
	var info Info
	if err == nil {
		info, err = decodeInfo(b)
	}
	if err != nil {
		return Info{}, fmt.Errorf("layer %s: %w", d.id, err)
	}
	return info, nil
}

// CheckInfo tells whether what [Dir.Info] reads is damaged.
func (d *Dir) CheckInfo() error {
	_, err := d.readInfo()
	return err
}

// CheckSidecar tells whether what says the true attributes of files is damaged.
func (d *Dir) CheckSidecar() error {
	_, err := d.side()
	return err
}

// ForgetInfo removes what is known of the layer id beside its files.
func (p *Pool) ForgetInfo(id snapshot.ID) error {
	if err := checkID(id); err != nil {
		return err
	}
	return os.Remove(p.path(id, infoName))
}

// Sidecar tells whether a process that sees Path would see wrong owners, modes
// or kinds of files, because the disk could not hold the right ones.
func (d *Dir) Sidecar() (bool, error) {
	s, err := d.side()
	return s.visible, err
}

// Implied returns the names of the layer's implied directories, sorted, so that
// parents come first; "." among them if the layer says nothing of its root.
func (d *Dir) Implied() ([]string, error) {
	s, err := d.side()
	return slices.Clone(s.implied), err
}

// Lstat describes name. A whiteout is an item, not fs.ErrNotExist.
func (d *Dir) Lstat(name string) (Item, error) {
	f, err := d.all()
	if err != nil {
		return Item{}, err
	}
	return f.lstat(name)
}

// ReadDir lists the directory name, whiteouts included, sorted by name.
func (d *Dir) ReadDir(name string) ([]Item, error) {
	f, err := d.all()
	if err != nil {
		return nil, err
	}
	return f.list(name)
}

// Walk calls fn for everything in the layer, the root included: a directory
// before what is in it, and in each directory whiteouts first, as the OCI
// image-spec (layer.md, "Whiteouts") asks for, and otherwise sorted by name.
// The first error of fn ends the walk and is returned.
func (d *Dir) Walk(fn func(name string, it Item) error) error {
	f, err := d.all()
	if err != nil {
		return err
	}
	root, err := f.lstat(".")
	if err != nil {
		return err
	}
	if err := fn(".", root); err != nil {
		return err
	}
	return f.walk(".", fn)
}

// walk holds no descriptor while it is in a subdirectory, so depth costs none.
func (f files) walk(dir string, fn func(string, Item) error) error {
	items, err := f.list(dir)
	if err != nil {
		return err
	}
	for _, whiteouts := range []bool{true, false} {
		for _, it := range items {
			if it.Whiteout != whiteouts {
				continue
			}
			name := join(dir, it.Name)
			if err := fn(name, it); err != nil {
				return err
			}
			if it.Kind != snapshot.Dir {
				continue
			}
			if err := f.walk(name, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// Xattrs returns the extended attributes of name that belong to the image.
func (d *Dir) Xattrs(name string) (map[string]string, error) {
	f, err := d.all()
	if err != nil {
		return nil, err
	}
	return f.xattrs(name)
}

// OpenFile opens the regular file name for reading. The caller must close it.
func (d *Dir) OpenFile(name string) (*os.File, error) {
	f, err := d.all()
	if err != nil {
		return nil, err
	}
	return f.openFile(name)
}

func (d *Dir) open(name string) (io.ReadCloser, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenWithXattrs is OpenFile and Xattrs in one, for a name that Walk has called a
// regular file. The caller must close the file.
func (d *Dir) OpenWithXattrs(name string) (*File, map[string]string, error) {
	f, err := d.all()
	if err != nil {
		return nil, nil, err
	}
	return f.openWithXattrs(name)
}

func (d *Dir) files() (files, error) {
	s, err := d.side()
	if err != nil {
		return files{}, err
	}
	root := filepath.Join(string(d.id), "fs")
	return files{
		open: func(name string, flags int) (int, error) {
			defer runtime.KeepAlive(d.pool)
			return openBeneath(int(d.pool.root.Fd()), join(root, name), flags)
		},
		stat: func(name string, st *unix.Stat_t) error {
			defer runtime.KeepAlive(d.pool)
			return unix.Fstatat(int(d.pool.root.Fd()), join(root, name), st, unix.AT_SYMLINK_NOFOLLOW)
		},
		record: func(name string) *record { return s.records[name] },
		implied: func(name string) bool {
			_, ok := slices.BinarySearch(s.implied, name)
			return ok
		},
	}, nil
}
