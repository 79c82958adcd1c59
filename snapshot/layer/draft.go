package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Draft is a layer that is being written. It vanishes unless it is committed.
//
// Names are slash-separated, clean and relative, and "." is the root; others are
// refused. No method follows a symbolic link: a name that passes through one
// fails with syscall.ELOOP, and nothing is ever written outside. Parents that a
// name lacks are made as implied directories. What exists by the name already is
// replaced, but a directory stays where a directory is made. Of an entry, the
// owner, Mode and ModTime matter, and what its kind needs: Link, Major and
// Minor.
//
// A draft is also the tree of what has been written so far, without whiteouts.
// It is safe for concurrent use, as long as nobody uses a name that others are
// still writing.
type Draft struct {
	pool *Pool
	dir  string // temporary: fs, and what Commit puts beside it
	may  privileges
	bufs sync.Pool // *copyBuffer

	mu   sync.Mutex
	done bool
	fds  dirFDs
	// made is the owner that the kernel gives to what this process makes.
	made [2]int
	// refused are owners that the kernel refused to give to a file.
	refused map[[2]int]bool
	// dirs are the directories of the draft. Their attributes are set by Commit:
	// until then they are changed in, and may be ones we could not write to.
	dirs map[string]*draftDir
	// records are what the disk refused. Names of one file share a record.
	records map[string]*record
	journal *journal
}

// draftDir is what a directory of a draft will be.
type draftDir struct {
	entry   snapshot.Entry // owner, Mode and ModTime
	implied bool
}

var _ snapshot.Tree = (*Draft)(nil)

// Draft starts a new layer. The caller must close it.
func (p *Pool) Draft() (*Draft, error) {
	tmp, err := p.tempDir()
	if err != nil {
		return nil, err
	}
	d, err := newDraft(p, tmp)
	if err != nil {
		os.RemoveAll(tmp)
		return nil, fmt.Errorf("start layer: %w", err)
	}
	return d, nil
}

func newDraft(p *Pool, dir string) (*Draft, error) {
	root := filepath.Join(dir, "fs")
	if err := unix.Mkdir(root, 0o700); err != nil {
		return nil, err
	}
	// What the pool's own directory hands down is no business of an image.
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		unix.Lremovexattr(root, acl) // fails if there is none
	}
	if err := unix.Chmod(root, 0o700); err != nil { // no set-group-ID bit
		return nil, err
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	d := &Draft{
		pool:    p,
		dir:     dir,
		may:     readPrivileges(),
		fds:     dirFDs{root: fd},
		made:    [2]int{int(st.Uid), int(st.Gid)},
		refused: map[[2]int]bool{},
		dirs:    map[string]*draftDir{".": newImplied()},
		records: map[string]*record{},
		journal: newJournal(dir),
	}
	d.bufs.New = func() any { return new(copyBuffer) }
	return d, nil
}

func newImplied() *draftDir {
	dir := &draftDir{implied: true}
	imply(&dir.entry)
	return dir
}

// Path returns the directory that holds the files. The owners, modes and times
// of directories are not settled there before Commit.
func (d *Draft) Path() string { return filepath.Join(d.dir, "fs") }

// Mkdir makes the directory name. If there is one already, it takes e's
// attributes, loses its extended ones and keeps what is in it. "." gives the
// root attributes; it is implied otherwise.
func (d *Draft) Mkdir(name string, e snapshot.Entry) error {
	return d.change("mkdir", name, func(at int, base string) error {
		if name == "." {
			d.dirs[name] = &draftDir{entry: e}
			return nil
		}
		err := unix.Mkdirat(at, base, 0o700)
		switch err {
		case nil:
			err = d.journal.putDir(name)
		case unix.EEXIST:
			err = d.remake(at, base, name)
		}
		if err == nil {
			d.dirs[name] = &draftDir{entry: e}
		}
		return err
	})
}

// remake turns whatever is at name into a directory without attributes.
func (d *Draft) remake(at int, base, name string) error {
	if kind, err := d.kind(at, base, name); err != nil {
		return err
	} else if kind == dirKind {
		return d.setXattrs(at, base, name, map[string]string{})
	} else if kind == whiteoutKind {
		return d.unhide(at, base, name)
	}
	if err := d.removeAt(at, base, name); err != nil {
		return err
	}
	return unix.Mkdirat(at, base, 0o700)
}

// unhide turns the whiteout name into a directory that still hides what is below.
func (d *Draft) unhide(at int, base, name string) error {
	if err := d.removeAt(at, base, name); err != nil {
		return err
	}
	if err := unix.Mkdirat(at, base, 0o700); err != nil {
		return err
	}
	dir := newImplied()
	dir.implied = false // what is below is gone, with its attributes
	d.dirs[name] = dir
	return d.setOpaque(at, base, name)
}

// File writes a regular file with the bytes of r, as many as there are. Long
// runs of zeros become holes.
func (d *Draft) File(name string, e snapshot.Entry, r io.Reader) error {
	fd, mode, was := -1, uint32(0o600), unknownMode
	if m := e.Mode & 0o7777; m&^0o777 == 0 && m&d.may.umask == 0 {
		mode, was = m, m // nobody else can reach it
	}
	err := d.replace("create", name, func(at int, base string) (err error) {
		fd, err = openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return err
	}
	buf := d.bufs.Get().(*copyBuffer)
	defer d.bufs.Put(buf)
	l := Listed{Path: name, Item: Item{Entry: snapshot.Entry{Kind: snapshot.File}}}
	digester, digested := r.(Digester)
	l.HasCRC = !digested
	l.Size, l.CRC, err = copySparse(fd, r, buf, l.HasCRC)
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if digested {
		l.Digest = digester.Digest()
	}
	l.setAttributes(e)
	return d.change("create", name, func(at int, base string) error {
		if err := d.settle(at, base, name, snapshot.File, e, made{true, was}); err != nil {
			return err
		}
		return d.journal.put(l)
	})
}

// Digester is a reader that computes the SHA-256 of what is read of it. A draft
// that is given one need not compute anything to list the file.
type Digester interface {
	io.Reader
	// Digest is that of all that was read so far.
	Digest() digest.Digest
}

// settleNew settles an item, no regular file, that was just made.
func (d *Draft) settleNew(at int, base, name string, kind snapshot.Kind, e snapshot.Entry) error {
	if err := d.settle(at, base, name, kind, e, made{true, unknownMode}); err != nil {
		return err
	}
	l := Listed{Path: name, Item: Item{Entry: snapshot.Entry{Kind: kind}}}
	switch kind {
	case snapshot.Symlink:
		l.Link = e.Link
	case snapshot.CharDevice, snapshot.BlockDevice:
		l.Major, l.Minor = e.Major, e.Minor
	}
	l.setAttributes(e)
	return d.journal.put(l)
}

// Symlink makes a symbolic link to e.Link, which may be anything.
func (d *Draft) Symlink(name string, e snapshot.Entry) error {
	return d.replace("symlink", name, func(at int, base string) error {
		if err := unix.Symlinkat(e.Link, at, base); err != nil {
			return err
		}
		return d.settleNew(at, base, name, snapshot.Symlink, e)
	})
}

// Fifo makes a named pipe.
func (d *Draft) Fifo(name string, e snapshot.Entry) error {
	return d.replace("mkfifo", name, func(at int, base string) error {
		if err := unix.Mknodat(at, base, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
		return d.settleNew(at, base, name, snapshot.Fifo, e)
	})
}

// Device makes a device of e.Kind. A character device 0:0 is a whiteout to every
// overlay, and so it is here.
func (d *Draft) Device(name string, e snapshot.Entry) error {
	dev := device{Block: e.Kind == snapshot.BlockDevice, Major: e.Major, Minor: e.Minor}
	if dev == (device{}) {
		return d.Whiteout(name)
	}
	mode := uint32(unix.S_IFCHR)
	if dev.Block {
		mode = unix.S_IFBLK
	}
	return d.replace("mknod", name, func(at int, base string) error {
		err := unix.Mknodat(at, base, mode|0o600, int(unix.Mkdev(e.Major, e.Minor)))
		if err == unix.EPERM {
			if err = makeEmpty(at, base); err == nil {
				d.recordOf(name).Device = &dev
			}
		}
		if err != nil {
			return err
		}
		return d.settleNew(at, base, name, e.Kind, e)
	})
}

// makeEmpty makes the file that stands for what the kernel does not let us make.
func makeEmpty(at int, base string) error {
	fd, err := openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Link makes newname another name of oldname, which is in the draft and no directory.
func (d *Draft) Link(oldname, newname string) error {
	if oldname == newname {
		return nil
	}
	old, err := d.Lstat(oldname)
	if err != nil {
		return err
	}
	if old.Kind == snapshot.Dir {
		return &fs.PathError{Op: "link", Path: oldname, Err: unix.EISDIR}
	}
	return d.replace("link", newname, func(int, string) error {
		dir, oldbase := split(oldname)
		from, err := d.fds.get(dir)
		if err != nil {
			return err
		}
		// That may have closed what we were given, if very many directories are open.
		dir, base := split(newname)
		at, err := d.fds.get(dir)
		if err != nil {
			return err
		}
		if err := unix.Linkat(from, oldbase, at, base, 0); err != nil {
			return err
		}
		d.records[newname] = d.recordOf(oldname)
		return d.journal.put(Listed{Path: newname, Same: oldname})
	})
}

// Remove removes name and everything beneath it from the draft. A missing name
// is no error. It hides nothing: see [Draft.Whiteout].
func (d *Draft) Remove(name string) error {
	if name == "." {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrInvalid}
	}
	if err := checkName("remove", name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, base := split(name)
	at, err := d.fds.get(dir)
	if err == nil {
		err = d.removeAt(at, base, name)
	}
	if err != nil && err != unix.ENOTDIR && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// SetAttrs gives name e's owner, Mode and ModTime and replaces its extended
// attributes by xattrs; a nil map leaves those as they are. Attributes that
// belong to this machine and not to images are left out.
func (d *Draft) SetAttrs(name string, e snapshot.Entry, xattrs map[string]string) error {
	if err := checkName("setattrs", name); err != nil {
		return err
	}
	old, err := d.Lstat(name)
	if err != nil {
		return err
	}
	return d.change("setattrs", name, func(at int, base string) (err error) {
		if xattrs == nil && old.Kind == snapshot.File {
			// To give a file away is to lose its capabilities.
			if xattrs, err = d.files().xattrs(name); err != nil {
				return err
			}
		}
		if old.Kind == snapshot.Dir {
			d.dirs[name] = &draftDir{entry: e}
		} else if err := d.settle(at, base, name, old.Kind, e, made{false, unknownMode}); err != nil {
			return err
		}
		if xattrs != nil {
			if err := d.setXattrs(at, base, name, xattrs); err != nil {
				return err
			}
		}
		if old.Kind == snapshot.Dir {
			return nil
		}
		if len(xattrs) > 0 { // not all of it is the image's, or means anything
			if xattrs, err = d.files().xattrs(name); err != nil {
				return err
			}
		}
		d.journal.amend(name, e, xattrs)
		return nil
	})
}

// Commit publishes the draft as layer id. If there is such a layer already, that
// one wins and the draft is discarded: both have the same content by the
// definition of an ID. After an error the draft can only be closed.
func (d *Draft) Commit(id snapshot.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return fmt.Errorf("commit layer %s: %w", id, fs.ErrClosed)
	}
	err := checkID(id)
	if err == nil {
		err = d.finish()
	}
	if err == nil {
		err = d.pool.publish(d.dir, id)
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	d.done = true
	d.fds.close()
	d.journal.spill.close()
	return nil
}

// Close discards the draft unless it was committed. It is safe to call more than once.
func (d *Draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil
	}
	d.done = true
	d.fds.close()
	d.journal.spill.close()
	return removeAll(d.dir)
}
