package layer

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// Listed is a line of a layer's list: an item with all that the layer says of it.
// A list has the items of a layer in the order of [Dir.Walk], and what tells
// whether they are still what they were when the layer was made.
//
// Of the [snapshot.Entry] in it, what depends on the disk is not set: Dev, Ino,
// Nlink, ChangeTime, and the Size of what is no regular file.
type Listed struct {
	// Path is the item's name relative to the layer's root, "." for that.
	Path string
	Item
	// Same is the first of the names, in the list's order, of a file that has
	// several; it is empty for the first one itself. Nothing else is known of such
	// an item: all of it is what the first one says.
	Same string
	// Xattrs are the extended attributes that belong to the image.
	Xattrs map[string]string
	// Digest is the SHA-256 of a regular file's content; empty if nobody needed it yet.
	Digest digest.Digest
	// CRC is the CRC-32C of a regular file's content, if HasCRC. One with neither
	// it nor a Digest is not in any list.
	CRC    uint32
	HasCRC bool
}

// errOrder reports items that are not in the order of [Dir.Walk].
var errOrder = errors.New("out of order")

// order checks that items come in the order of [Dir.Walk], each in a directory
// that came before.
type order struct{ last Listed }

func (o *order) next(l *Listed) error {
	if o.last.Path == "" {
		if l.Path != "." || !isDir(l) {
			return fmt.Errorf("%s: the root does not come first: %w", l.Path, errOrder)
		}
	} else {
		parent, _ := split(l.Path)
		in := parent == "." || parent == o.last.Path && isDir(&o.last) || strings.HasPrefix(o.last.Path, parent+"/")
		if !in || l.Path == "." || !before(&o.last, l) {
			return fmt.Errorf("%s after %s: %w", l.Path, o.last.Path, errOrder)
		}
	}
	o.last.Path, o.last.Kind, o.last.Whiteout, o.last.Same = l.Path, l.Kind, l.Whiteout, l.Same
	return nil
}

func isDir(l *Listed) bool { return l.Kind == snapshot.Dir && !l.Whiteout && l.Same == "" }

// before tells whether a comes before b, neither of which is the same name.
func before(a, b *Listed) bool {
	if a.Path == "." {
		return true
	}
	p, q := a.Path, b.Path
	for {
		x, p1, inX := strings.Cut(p, "/")
		y, q1, inY := strings.Cut(q, "/")
		if x != y {
			if hides, hidesB := a.Whiteout && !inX, b.Whiteout && !inY; hides != hidesB {
				return hides
			}
			return x < y
		}
		if !inX || !inY {
			return inY // the directory before what is in it
		}
		p, q = p1, q1
	}
}

// check tells what no item of a layer can be like. What it lets pass is written to
// a list as it is, and read from one.
func (l *Listed) check() error {
	if err := checkName("list", l.Path); err != nil {
		return err
	}
	if len(l.Path) > maxName {
		return fmt.Errorf("a name of %d bytes is too long", len(l.Path))
	}
	if l.Same != "" {
		return checkName("list", l.Same)
	}
	switch {
	case l.Kind > snapshot.Socket:
		return fmt.Errorf("%s: kind %d is not known", l.Path, l.Kind)
	case l.Mode > 0o7777:
		return fmt.Errorf("%s: mode %o has bits that no file has", l.Path, l.Mode)
	case l.UID < 0 || l.GID < 0 || l.UID >= math.MaxUint32 || l.GID >= math.MaxUint32:
		return fmt.Errorf("%s: owner %d:%d is out of range", l.Path, l.UID, l.GID)
	case l.Size < 0:
		return fmt.Errorf("%s: size %d is out of range", l.Path, l.Size)
	case (l.Opaque || l.Implied) && l.Kind != snapshot.Dir:
		return fmt.Errorf("%s: it is no directory", l.Path)
	case l.Kind == snapshot.File && !l.Whiteout && l.Digest == "" && !l.HasCRC:
		return fmt.Errorf("%s: its content is not identified", l.Path)
	}
	if l.Digest == "" {
		return nil
	}
	if err := l.Digest.Validate(); err != nil || l.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%s: digest %q is no SHA-256", l.Path, l.Digest)
	}
	return nil
}

// CRC adds the bytes b to a CRC-32C as lists have it; that of no bytes is 0.
func CRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// NewListed describes an item as a list does, but for the content of a file.
func NewListed(path string, it Item, xattrs map[string]string) Listed {
	if it.Whiteout {
		return Listed{Path: path, Item: Item{Entry: snapshot.Entry{Name: it.Name, Kind: snapshot.CharDevice}, Whiteout: true}}
	}
	it.Dev, it.Ino, it.Nlink, it.ChangeTime = 0, 0, 0, time.Time{}
	if it.Kind != snapshot.File {
		it.Size = 0
	}
	return Listed{Path: path, Item: it, Xattrs: xattrs}
}
