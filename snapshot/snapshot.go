// Package snapshot says what a filesystem is to a build: a stack of layers,
// each the change on what lies below it.
//
// A layer is a directory that does not depend on its parent, so layers are
// unpacked in parallel, and COPY writes one without mounting anything. Its form
// on disk is the business of package layer; how a stack becomes a root that a
// process can use is the business of a [Driver]:
//
//	tx, err := driver.Begin(ctx, stack, targets) // a writable root over the stack
//	defer tx.Close()                             // gone, unless committed
//	run(tx.Mounts())                             // mounts are data; the runner performs them
//	err = tx.Commit(ctx, id)                     // what changed is now layer id
package snapshot

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ID names a layer in this machine's pool. It is safe as a file name, is chosen
// by whoever makes the layer, and is never used for another content.
type ID string

// Layer describes one layer: here (ID), in an image (DiffID and Blob), or both.
type Layer struct {
	// ID is the layer's name in the pool, if it was made on this machine.
	ID ID `json:"id,omitempty"`
	// DiffID is the digest of the layer's uncompressed tar (OCI image-spec,
	// config.md, "Layer DiffID"), if it is known.
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Blob is the layer's compressed form, if it came from an image.
	Blob *ocispec.Descriptor `json:"blob,omitempty"`
	// List is the list of the layer's files, if it came with a cache: what a COPY from it is
	// identified by while the layer itself is elsewhere. See layer.InventoryType.
	List *ocispec.Descriptor `json:"list,omitempty"`
	// Created is when the layer was made, to the second, in UTC; zero if unknown.
	Created time.Time `json:"created,omitzero"`
}

// Mount is a mount as data. Nobody mounts it until the process that needs it is
// in a mount namespace of its own.
type Mount struct {
	// Type is "overlay", "bind" or "tmpfs".
	Type string `json:"type"`
	// Source is the directory or file of a bind; empty otherwise.
	Source string `json:"source,omitempty"`
	// Target is the path inside the root; "/" is the root itself.
	Target string `json:"target"`
	// Options are "key=value" or "flag". Those of an overlay go to fsconfig(2) in
	// this order, so "lowerdir+=" may stand many times, the uppermost first. A
	// bind knows "ro" and "rbind"; a tmpfs knows "size=", "mode=", "uid=", "gid=".
	Options []string `json:"options,omitempty"`
}

// Target is a place inside a root that something will be mounted on.
type Target struct {
	// Path is absolute, as the Dockerfile names it; links in it are followed
	// inside the root.
	Path string
	// Dir tells a directory from a file.
	Dir bool
	// Keep tells that it, and its parents, belong into the layer if they had to
	// be made.
	Keep bool
}

// Driver makes filesystems from stacks of layers. Stacks are lowest first.
// Implementations are safe for concurrent use by goroutines and processes.
type Driver interface {
	// Begin returns a writable root over stack, in which every target exists.
	// Targets that the layers lack, and their parents, leave no trace in what
	// Commit keeps, unless the process itself put something there or they say so.
	Begin(ctx context.Context, stack []ID, targets []Target) (Tx, error)

	// View returns a read-only root over stack.
	View(ctx context.Context, stack []ID) (View, error)
}

// Tx is a writable root that is being changed.
type Tx interface {
	// Mounts make the root, the one on "/" first. They are valid until Commit or Close.
	Mounts() []Mount

	// Commit keeps what changed as layer id. Nothing may be mounted or running
	// on the root any more. After an error nothing is visible under id.
	Commit(ctx context.Context, id ID) error

	// Close discards everything unless it was committed. It is safe to call
	// after Commit and more than once.
	Close() error
}

// View is a read-only root.
type View interface {
	// Mounts make the root. They are valid until Close.
	Mounts() []Mount
	Close() error
}
