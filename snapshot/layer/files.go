package layer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

var errNotRegular = errors.New("not a regular file")

// files reads the files of one layer with their true attributes.
type files struct {
	// open opens a clean name; see openBeneath.
	open func(name string, flags int) (int, error)
	// stat is fstatat(2) without following name itself. It may follow links on the
	// way to it, so that open must be called for what matters.
	stat func(name string, st *unix.Stat_t) error
	// record returns what is recorded of name, or nil.
	record func(name string) *record
	// implied tells whether the directory name is.
	implied func(name string) bool
}

// lstat describes name, whiteouts included.
func (f files) lstat(name string) (Item, error) {
	if err := checkName("lstat", name); err != nil {
		return Item{}, err
	}
	fd, err := f.open(name, unix.O_PATH)
	if err != nil {
		return Item{}, missing("lstat", name, err)
	}
	defer unix.Close(fd)
	_, base := split(name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Item{}, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return f.item(name, base, &st, fd, "")
}

// item describes name, whose status is st, and which is procPath(fd, at).
func (f files) item(name, base string, st *unix.Stat_t, fd int, at string) (Item, error) {
	it := Item{Entry: entryOf(base, st)}
	it.Whiteout = it.Kind == snapshot.CharDevice && it.Major == 0 && it.Minor == 0
	var err error
	switch it.Kind {
	case snapshot.Symlink:
		it.Link, err = readlinkat(fd, at)
	case snapshot.Dir:
		it.Opaque, err = isOpaque(fd, at)
		it.Implied = f.implied(name)
	}
	if err != nil {
		return Item{}, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	if r := f.record(name); r != nil {
		r.amend(&it)
	}
	if it.Implied {
		imply(&it.Entry)
	}
	if it.Whiteout {
		it = Item{Entry: snapshot.Entry{Name: base, Kind: snapshot.CharDevice}, Whiteout: true}
	}
	return it, nil
}

// list lists the directory name, whiteouts included, sorted by name.
func (f files) list(name string) ([]Item, error) {
	if err := checkName("readdir", name); err != nil {
		return nil, err
	}
	fd, err := f.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, missing("readdir", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	items := make([]Item, 0, len(names))
	for _, base := range names {
		var st unix.Stat_t
		err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "lstat", Path: join(name, base), Err: err}
		}
		it, err := f.item(join(name, base), base, &st, fd, base)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// xattrs returns the extended attributes of name that belong to the image.
func (f files) xattrs(name string) (map[string]string, error) {
	if err := checkName("xattrs", name); err != nil {
		return nil, err
	}
	fd, err := f.open(name, unix.O_PATH)
	if err != nil {
		return nil, missing("xattrs", name, err)
	}
	defer unix.Close(fd)
	m, err := imageXattrs(fd, "")
	if err != nil {
		return nil, &fs.PathError{Op: "xattrs", Path: name, Err: err}
	}
	return f.withRecorded(name, m), nil
}

// withRecorded adds to m the extended attributes of name that are recorded.
func (f files) withRecorded(name string, m map[string]string) map[string]string {
	if r := f.record(name); r != nil {
		for k, v := range r.Xattrs {
			if m == nil {
				m = map[string]string{}
			}
			m[k] = string(v)
		}
	}
	return m
}

// openFile opens the regular file name for reading.
func (f files) openFile(name string) (*os.File, error) {
	if err := checkName("open", name); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := f.stat(name, &st); err != nil {
		return nil, missing("open", name, err)
	}
	it := Item{Entry: entryOf(name, &st)}
	if r := f.record(name); r != nil {
		r.amend(&it)
	}
	if it.Whiteout || it.Kind == snapshot.CharDevice && it.Major == 0 && it.Minor == 0 {
		return nil, notExist("open", name)
	}
	if it.Kind != snapshot.File { // to open a device is to use it
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	fd, err := f.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, missing("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openWithXattrs is openFile and xattrs, in fewer system calls, for a name that
// is known to be a regular file.
func (f files) openWithXattrs(name string) (*File, map[string]string, error) {
	if err := checkName("open", name); err != nil {
		return nil, nil, err
	}
	fd, err := f.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, nil, missing("open", name, err)
	}
	file := &File{fd: fd, name: name}
	m, err := fileXattrs(fd)
	if err != nil {
		file.Close()
		return nil, nil, &fs.PathError{Op: "xattrs", Path: name, Err: err}
	}
	return file, f.withRecorded(name, m), nil
}

// File is an open regular file of a layer. It does without what an os.File has
// for files that can block, which would cost as much as reading a small one.
type File struct {
	fd   int
	name string
}

// Read implements [io.Reader].
func (f *File) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Close closes the file, which must not be used any more.
func (f *File) Close() error {
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// imply gives e the attributes of a directory of which no layer says anything.
func imply(e *snapshot.Entry) {
	e.UID, e.GID, e.Mode, e.ModTime = 0, 0, 0o755, time.Unix(0, 0).UTC()
}

// entryOf describes the file with the status st, all but a link's target.
func entryOf(base string, st *unix.Stat_t) snapshot.Entry {
	e := snapshot.Entry{
		Name:       base,
		Mode:       st.Mode & 0o7777,
		UID:        int(st.Uid),
		GID:        int(st.Gid),
		ModTime:    time.Unix(st.Mtim.Unix()).UTC(),
		ChangeTime: time.Unix(st.Ctim.Unix()).UTC(),
		Dev:        st.Dev,
		Ino:        st.Ino,
		Nlink:      uint64(st.Nlink),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = snapshot.Dir
	case unix.S_IFLNK:
		e.Kind = snapshot.Symlink
	case unix.S_IFCHR:
		e.Kind = snapshot.CharDevice
	case unix.S_IFBLK:
		e.Kind = snapshot.BlockDevice
	case unix.S_IFIFO:
		e.Kind = snapshot.Fifo
	case unix.S_IFSOCK:
		e.Kind = snapshot.Socket
	default:
		e.Size = st.Size
	}
	if e.Kind == snapshot.CharDevice || e.Kind == snapshot.BlockDevice {
		e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return e
}

// entries returns the items that are not whiteouts.
func entries(items []Item) []snapshot.Entry {
	es := make([]snapshot.Entry, 0, len(items))
	for _, it := range items {
		if !it.Whiteout {
			es = append(es, it.Entry)
		}
	}
	return es
}

// byName orders entries as a Tree lists them.
func byName(a, b snapshot.Entry) int { return strings.Compare(a.Name, b.Name) }

// Describe describes the file at path, a file of an overlay's upper directory,
// as the layer that will be made of it does. Links in path are followed, but
// not the last component.
func Describe(path string) (snapshot.Entry, map[string]string, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return snapshot.Entry{}, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return snapshot.Entry{}, nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	e := entryOf(path[strings.LastIndexByte(path, '/')+1:], &st)
	if e.Kind == snapshot.Symlink {
		if e.Link, err = readlinkat(fd, ""); err != nil {
			return e, nil, &fs.PathError{Op: "readlink", Path: path, Err: err}
		}
	}
	xattrs, err := imageXattrs(fd, "")
	if err != nil {
		return e, nil, &fs.PathError{Op: "xattrs", Path: path, Err: err}
	}
	return e, xattrs, nil
}
