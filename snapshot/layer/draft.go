package layer

import (
	"io"

	"lamina/snapshot"
)

// Draft is a layer that is being written. It vanishes unless it is committed.
//
// Names are slash-separated, clean and relative, "." is the root, and one that
// leads out of the draft is refused. No method follows a symbolic link: a name
// that passes through one fails with syscall.ELOOP, and nothing is ever written
// outside. Parents that a name lacks are made as implied directories. What
// exists by the name already is replaced, but a directory stays where a
// directory is made. Of an entry, the owner, Mode and ModTime matter, and what its kind
// needs: Link, Major and Minor.
//
// A draft is also the tree of what has been written so far, without whiteouts.
// It is safe for concurrent use, as long as nobody uses names that others are
// still writing.
type Draft struct{}

var _ snapshot.Tree = (*Draft)(nil)

// Path returns the directory that holds the files. The owners, modes and times
// of directories are not settled there before Commit.
func (d *Draft) Path() string { panic("todo") }

// Mkdir makes the directory name. If there is one already, it takes e's attributes, loses its
// extended ones and keeps what is in it. "." gives the root attributes, which
// is implied otherwise.
func (d *Draft) Mkdir(name string, e snapshot.Entry) error { panic("todo") }

// File writes a regular file with the bytes of r, as many as there are. Long
// runs of zeros become holes.
func (d *Draft) File(name string, e snapshot.Entry, r io.Reader) error { panic("todo") }

// Symlink makes a symbolic link to e.Link, which may be anything.
func (d *Draft) Symlink(name string, e snapshot.Entry) error { panic("todo") }

// Link makes newname another name of oldname, which is in the draft and no directory.
func (d *Draft) Link(oldname, newname string) error { panic("todo") }

// Device makes a device of e.Kind. A character device 0:0 is a whiteout to every
// overlay, and so it is here.
func (d *Draft) Device(name string, e snapshot.Entry) error { panic("todo") }

// Fifo makes a named pipe.
func (d *Draft) Fifo(name string, e snapshot.Entry) error { panic("todo") }

// Whiteout hides what the layers below have by the name. It does not touch what
// this layer has by it (OCI image-spec, layer.md, "Whiteouts"), before or after:
// a directory becomes opaque, and anything else hides what is below by itself.
func (d *Draft) Whiteout(name string) error { panic("todo") }

// Opaque hides what the directories below this one contain.
func (d *Draft) Opaque(dir string) error { panic("todo") }

// Implied makes the directory name, if the draft does not have it, as one that
// means whatever the layers below say of it.
func (d *Draft) Implied(name string) error { panic("todo") }

// SetAttrs gives name e's owner, Mode and ModTime and replaces its extended
// attributes by xattrs; a nil map leaves those as they are. Attributes that
// belong to this machine and not to images are left out.
func (d *Draft) SetAttrs(name string, e snapshot.Entry, xattrs map[string]string) error {
	panic("todo")
}

// Remove removes name and everything beneath it from the draft.
// A missing name is no error. It hides nothing: see [Draft.Whiteout].
func (d *Draft) Remove(name string) error { panic("todo") }

// Lstat implements [snapshot.Tree].
func (d *Draft) Lstat(name string) (snapshot.Entry, error) { panic("todo") }

// ReadDir implements [snapshot.Tree].
func (d *Draft) ReadDir(name string) ([]snapshot.Entry, error) { panic("todo") }

// Open implements [snapshot.Tree].
func (d *Draft) Open(name string) (io.ReadCloser, error) { panic("todo") }

// Xattrs implements [snapshot.Tree].
func (d *Draft) Xattrs(name string) (map[string]string, error) { panic("todo") }

// Commit publishes the draft as layer id. If there is such a layer already, that
// one wins and the draft is discarded: both have the same content by the
// definition of an ID. After an error the draft can only be closed.
func (d *Draft) Commit(id snapshot.ID) error { panic("todo") }

// Close discards the draft unless it was committed. It is safe to call more than once.
func (d *Draft) Close() error { panic("todo") }
