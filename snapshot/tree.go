package snapshot

import (
	"io"
	"time"
)

// Kind tells what an [Entry] is.
type Kind uint8

// The kinds of entries.
const (
	File Kind = iota
	Dir
	Symlink
	CharDevice
	BlockDevice
	Fifo
	Socket
)

// Entry describes one file of a tree by its true attributes, which are those of
// the image even where the disk could not hold them.
type Entry struct {
	Name    string // base name; "." for the root
	Kind    Kind
	Mode    uint32 // permission bits, setuid, setgid and sticky: 0 to 07777
	UID     int
	GID     int
	Size    int64     // bytes, of a regular file
	ModTime time.Time // to the nanosecond
	Link    string    // target of a symbolic link
	Major   uint32    // of a device
	Minor   uint32
	// Dev, Ino and Nlink tell hard links apart: entries of one tree with equal
	// Dev and Ino and Nlink above 1 are the same file.
	Dev, Ino, Nlink uint64
	// ChangeTime is the inode's ctime where there is one, for stat indexes.
	ChangeTime time.Time
}

// Tree is a filesystem to read from: a build context, a layer, a stack of
// layers, an unpacked archive. Names are slash-separated, clean, relative to the
// root, and "." is the root. No method follows a symbolic link anywhere in a
// name: a name that passes through one is fs.ErrNotExist. Resolve names with
// [Resolve] first. A missing name is fs.ErrNotExist.
// Trees are safe for concurrent use.
type Tree interface {
	// Lstat describes name.
	Lstat(name string) (Entry, error)
	// ReadDir lists the directory name, sorted by name.
	ReadDir(name string) ([]Entry, error)
	// Open reads the regular file name. The caller must close it.
	Open(name string) (io.ReadCloser, error)
	// Xattrs returns the extended attributes of name that belong to the image
	// (none of the snapshot driver's own); nil if there are none.
	Xattrs(name string) (map[string]string, error)
}
