// Package layer keeps unpacked layers on disk: a [Pool] of them, a [Dir] to read
// one, a [Stack] to read many as one tree, and a [Draft] to write a new one.
//
//	d, err := pool.Draft()
//	defer d.Close() // gone, unless committed
//	err = d.Mkdir("etc", snapshot.Entry{Mode: 0o755, ModTime: t})
//	err = d.File("etc/motd", snapshot.Entry{Mode: 0o644, ModTime: t}, r)
//	err = d.Commit(id) // now pool.Open(id) finds it
//
// A layer is a directory:
//
//	layers/<id>/fs/        the files, in the form of an overlay's upper directory:
//	                       a white-out is a character device 0:0, an opaque directory
//	                       has the attribute trusted.overlay.opaque (or user.…) "y"
//	layers/<id>/attrs      what the disk could not hold (see below), one JSON object a line
//	layers/<id>/implied    directories that the layer does not describe, NUL after each
//	layers/<id>/list       what the layer consists of, with what identifies each file's
//	                       content (see [Listed]); that of a RUN comes when it is packed
//	layers/<id>/info.json  an [Info]
//	layers/<id>/unsynced   the boot during which the layer was published, until it
//	                       is known to survive a power failure
//	layers/sha256-<hex>    a symbolic link to <id>: finds a layer by its diff ID
//
// True attributes. An ordinary user cannot give a file away, make a device or set
// security.capability. What the disk refuses is written to attrs, and everything
// that reads through this package sees the image's attributes, not the disk's.
//
// Implied directories. An archive may hold a/b/c and say nothing of a and a/b. They
// exist on disk, but mean whatever the layers below say they are; where those say
// nothing, they belong to 0:0, with mode 0755, and are as old as Unix time.
package layer

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot"
)

// Item is an entry of one layer, which may say something of the layers below it.
type Item struct {
	snapshot.Entry
	// Whiteout hides what the layers below have by this name; nothing else is
	// known of such an item but its name.
	Whiteout bool
	// Opaque marks a directory that hides the contents of the ones below it.
	Opaque bool
	// Implied marks a directory whose attributes are those of the one below it.
	// The item's own are what it has where there is none.
	Implied bool
}

// Info is what is known of a published layer beside its files.
type Info struct {
	// DiffID is the digest of the layer as an uncompressed tar.
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Size is the length of that tar in bytes.
	Size int64 `json:"size,omitempty"`
	// Packed remembers the layer's compressed forms, by a name that says how each
	// was made, such as "gzip-5".
	Packed map[string]Packed `json:"packed,omitempty"`
	// Created is when the layer was made.
	Created time.Time `json:"created,omitzero"`
}

// Packed is one compressed form of a layer. Its DiffID is not the layer's own
// where packing changed the content, as clamping its times does.
type Packed struct {
	DiffID digest.Digest      `json:"diffID"`
	Blob   ocispec.Descriptor `json:"blob"`
}

// DiffIDName returns the ID of a layer that comes from an image: "sha256-<hex>".
func DiffIDName(d digest.Digest) snapshot.ID {
	return snapshot.ID(strings.Replace(d.String(), ":", "-", 1))
}

// errInvalidID reports an ID that is not a plain file name.
var errInvalidID = errors.New("invalid layer id")

func checkID(id snapshot.ID) error {
	if id == "" || id[0] == '.' || len(id) > 255 || strings.ContainsAny(string(id), "/\x00") {
		return fmt.Errorf("%w %q", errInvalidID, id)
	}
	return nil
}
