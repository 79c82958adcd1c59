// Package layertar turns layers into OCI layer tars (image-spec, layer.md) and back.
package layertar

import (
	"context"
	"io"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// Options change what is written.
type Options struct {
	// Epoch, if set, replaces every time that is later than it.
	Epoch *time.Time
}

// Apply writes the layer tar r, which is not compressed, to d.
func Apply(ctx context.Context, d *layer.Draft, r io.Reader) error { panic("todo") }

// Write writes the layer d as a tar. Equal layers make equal bytes.
func Write(ctx context.Context, w io.Writer, d *layer.Dir, opt Options) error { panic("todo") }

// WriteTree writes all of t as a tar.
func WriteTree(ctx context.Context, w io.Writer, t snapshot.Tree, opt Options) error { panic("todo") }

// Decompress returns the plain bytes of r, which may be compressed by gzip, zstd, bzip2
// or xz, as its first bytes tell, or not at all. The caller must close it.
func Decompress(r io.Reader) (io.ReadCloser, error) { panic("todo") }
