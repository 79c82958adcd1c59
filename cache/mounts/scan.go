package mounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy reports a mount that did not hold still: steps of other builds were
// writing to it.
var ErrBusy = errors.New("it was written to while it was read")

const (
	// scans is how often a mount is looked at until it holds still.
	scans = 5
	// tick is how coarse the kernel's clock of files may be: what changed within it
	// may change again without a trace.
	tick = 20 * time.Millisecond
)

// scan lists what is at data as it was at one instant: it is walked twice, and
// nothing may have changed in between. What a tool had half done at that instant is
// half done in the tree, as if the tool had been killed. It is ErrBusy if data does
// not hold still.
func scan(ctx context.Context, data string, known sums) (*Tree, sums, error) {
	wait := tick
	for try := range scans {
		if try > 0 {
			select {
			case <-ctx.Done():
				return nil, nil, context.Cause(ctx)
			case <-time.After(wait):
				wait *= 3
			}
		}
		s := &scanner{ctx: ctx, known: known, sums: sums{}, links: map[uint64]string{}, start: time.Now()}
		err := s.walk(data)
		if err == nil && s.newest.Before(s.start.Add(-tick)) {
			again := &scanner{ctx: ctx, only: s.sums, sums: sums{}, links: map[uint64]string{}}
			if err = again.walk(data); err == nil && again.newest.Equal(s.newest) && slices.EqualFunc(s.tree.Entries, again.tree.Entries, same) {
				return &s.tree, s.sums, nil
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrBusy) {
			return nil, nil, err
		}
		known = s.sums // what was hashed need not be hashed again
	}
	return nil, nil, ErrBusy
}

// same tells whether a second look at an entry shows what the first did. Contents
// are not read a second time: their files' status is compared.
func same(a, b Entry) bool {
	return a.Path == b.Path && a.Kind == b.Kind && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID &&
		a.Time == b.Time && a.Size == b.Size && a.Target == b.Target && a.Content == b.Content
}

// scanner walks a mount. It never follows a link: a directory is opened from the one
// above it, so that who swaps one for a link while it is read leads it nowhere.
type scanner struct {
	ctx   context.Context
	known sums // of an earlier look
	// only, if not nil, are the sums that files must still have; nothing is read.
	only   sums
	sums   sums
	links  map[uint64]string // first name of each file that has several
	start  time.Time
	newest time.Time // of all changes that were seen
	tree   Tree
}

// walk adds everything at data.
func (s *scanner) walk(data string) error {
	parent, err := unix.Open(path.Dir(data), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open cache mount: %w", err)
	}
	defer unix.Close(parent)
	return s.add(parent, path.Base(data), ".")
}

// add adds base of the directory at, which the tree calls name.
func (s *scanner) add(at int, base, name string) error {
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	if changed := time.Unix(st.Ctim.Unix()); changed.After(s.newest) {
		s.newest = changed
	}
	e := entryOf(name, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return s.dir(at, base, e)
	case unix.S_IFREG:
		return s.file(at, base, e, &st)
	case unix.S_IFLNK:
		buf := make([]byte, maxPath+1)
		n, err := unix.Readlinkat(at, base, buf)
		if err != nil {
			return &fs.PathError{Op: "readlink", Path: name, Err: err}
		}
		e.Kind, e.Mode, e.Target = Symlink, 0, string(buf[:n])
		s.tree.Entries = append(s.tree.Entries, e)
	}
	return nil // devices, sockets and pipes stay where they are
}

// entryOf describes a file as the tree does. What an ordinary user owns is root's:
// that user is root in the containers, and can give nothing away.
func entryOf(name string, st *unix.Stat_t) Entry {
	e := Entry{
		Path: name, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		Time: time.Unix(st.Mtim.Unix()).UnixNano(),
	}
	if euid := os.Geteuid(); euid != 0 && e.UID == euid {
		e.UID, e.GID = 0, 0
	}
	return e
}

// open opens base of the directory at for reading, if it still is what st says.
func open(at int, base, name string, how int) (*os.File, error) {
	fd, err := unix.Openat(at, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|how, 0)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return nil, ErrBusy // it was something else a moment ago
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (s *scanner) dir(at int, base string, e Entry) error {
	d, err := open(at, base, e.Path, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	e.Kind = Dir
	if s.only == nil {
		if e.Xattrs, err = userXattrs(d); err != nil {
			return err
		}
	}
	s.tree.Entries = append(s.tree.Entries, e)
	if len(s.tree.Entries) > maxEntries {
		return fmt.Errorf("it has more than %d files", maxEntries)
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := s.add(int(d.Fd()), n, path.Join(e.Path, n)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) file(at int, base string, e Entry, st *unix.Stat_t) error {
	e.Mode &= 0o1777 // see Tree
	if st.Nlink > 1 {
		if first, ok := s.links[st.Ino]; ok {
			e.Kind, e.Target = Link, first
			s.tree.Entries = append(s.tree.Entries, e)
			return nil
		}
		s.links[st.Ino] = e.Path
	}
	e.Size = st.Size
	now := stamp{Ino: st.Ino, Size: st.Size, Time: e.Time, Changed: time.Unix(st.Ctim.Unix()).UnixNano()}
	if s.only != nil {
		was, ok := s.only[e.Path]
		if !ok || !was.is(now) {
			return ErrBusy
		}
		e.Content = was.Content
		s.tree.Entries = append(s.tree.Entries, e)
		return nil
	}
	f, err := open(at, base, e.Path, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.Xattrs, err = userXattrs(f); err != nil {
		return err
	}
	if was, ok := s.known[e.Path]; ok && was.is(now) && was.Seen-was.Changed > int64(tick) {
		now.Content = was.Content
	} else if now.Content, err = s.hash(f, st.Size); err != nil {
		return err
	}
	now.Seen = s.start.UnixNano()
	e.Content = now.Content
	s.sums[e.Path] = now
	s.tree.Entries = append(s.tree.Entries, e)
	return nil
}

// hash reads f, of this many bytes.
func (s *scanner) hash(f io.Reader, size int64) (sum [32]byte, err error) {
	if size == 0 {
		return sum, nil
	}
	h := sha256.New()
	n, err := io.Copy(h, &contextReader{s.ctx, f})
	if err != nil {
		return sum, err
	}
	if n != size {
		return sum, ErrBusy
	}
	h.Sum(sum[:0])
	return sum, nil
}

// contextReader is r until ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// userXattr begins the names of the attributes that travel. Others are the
// machine's, or give powers.
const userXattr = "user."

// userXattrs returns those of f, nil if there are none.
func userXattrs(f *os.File) (map[string]string, error) {
	fd := int(f.Fd())
	n, err := unix.Flistxattr(fd, nil)
	if n == 0 || err == unix.ENOTSUP {
		return nil, nil
	}
	var list []byte
	if err == nil {
		list = make([]byte, n)
		n, err = unix.Flistxattr(fd, list)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: f.Name(), Err: err}
	}
	m := map[string]string{}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if !strings.HasPrefix(name, userXattr) || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value := make([]byte, maxXattrs)
		n, err := unix.Fgetxattr(fd, name, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr", Path: f.Name(), Err: err}
		}
		m[name] = string(value[:n])
	}
	return copyXattrs(m), nil
}
