// Package cache keeps what builds produce, so that the next build need not.
//
// Three small interfaces say what can be kept: an [Index] remembers results by
// key, [Blobs] holds bytes by digest, and a [Repository] is blobs with names.
// A registry, an OCI layout, an archive and this machine's own [Store] are all
// repositories, which makes push, pull, save, load and tag the same operation:
// copy the blobs, then set the name.
package cache

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Key names a remembered result: the digest of "this operation on these inputs".
type Key = digest.Digest

// Index remembers one opaque record for each key. Implementations are safe for
// concurrent use by goroutines and by processes.
type Index interface {
	// Get returns the record of k. A miss is fs.ErrNotExist; so is a record that
	// can be read but is damaged, because the caller's remedy is the same.
	Get(ctx context.Context, k Key) ([]byte, error)

	// Put stores the record of k, replacing an earlier one. A nil error means
	// that a later Get by any process returns this record or a newer one.
	Put(ctx context.Context, k Key, record []byte) error
}

// Blobs is content by digest. Implementations are safe for concurrent use.
type Blobs interface {
	// Has tells whether the blob is here, without reading it.
	Has(ctx context.Context, d ocispec.Descriptor) (bool, error)

	// Open returns the blob's bytes. The reader fails at its end if size or
	// digest are not the descriptor's, so a caller that reads to io.EOF has
	// verified content. An absent blob is fs.ErrNotExist. The caller must close it.
	Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)

	// Put stores the bytes of r. A nil error means that the content is stored
	// under d.Digest and is exactly d.Size bytes; it does not mean that this call
	// wrote it. On an error nothing is visible under d.Digest.
	Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error
}

// Ingester accepts bytes whose digest is not known until they have been read.
type Ingester interface {
	// Ingest stores all of r and returns its descriptor, of the given media type.
	// On an error, of r's included, nothing is stored.
	Ingest(ctx context.Context, mediaType string, r io.Reader) (ocispec.Descriptor, error)
}

// Repository is blobs with names.
type Repository interface {
	Blobs

	// Resolve returns what name stands for: the descriptor of a manifest or an
	// index. An unknown name is fs.ErrNotExist.
	Resolve(ctx context.Context, name string) (ocispec.Descriptor, error)

	// Tag makes name stand for root, whose whole graph must already be here. The
	// change is atomic: others see the old root or the new one.
	Tag(ctx context.Context, name string, root ocispec.Descriptor) error
}

// Progress is told about bytes in transit: done of d.Size so far. It may be
// called from several goroutines at once. A nil Progress is never called.
type Progress func(d ocispec.Descriptor, done int64)
