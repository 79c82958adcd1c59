package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/layertar"
	"lamina/solver"
)

// unpackAtOnce is how many layers are fetched and unpacked at the same time.
const unpackAtOnce = 4

// Unpack makes sure that layers are in the pool and returns their names there,
// in the same order. Those that are not are fetched and unpacked in parallel.
// out, if not nil, is told how far the downloads are.
func (w *Worker) Unpack(ctx context.Context, layers []snapshot.Layer, out solver.Output) ([]snapshot.ID, error) {
	ids := make([]snapshot.ID, len(layers))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(unpackAtOnce)
	for i, l := range layers {
		if id, ok := w.find(l); ok {
			ids[i] = id
			continue
		}
		eg.Go(func() (err error) {
			ids[i], err = w.unpack(ctx, l, out)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	return ids, nil
}

// find looks l up in the pool.
func (w *Worker) find(l snapshot.Layer) (snapshot.ID, bool) {
	if l.ID != "" {
		if _, err := w.Pool.Open(l.ID); err == nil {
			return l.ID, true
		}
	}
	if l.DiffID != "" {
		if id, err := w.Pool.Find(l.DiffID); err == nil {
			return id, true
		}
	}
	return "", false
}

func (w *Worker) unpack(ctx context.Context, l snapshot.Layer, out solver.Output) (snapshot.ID, error) {
	if l.Blob == nil || l.DiffID == "" {
		return "", fmt.Errorf("layer %s was removed from the store while it was in use: %w", l.ID, fs.ErrNotExist)
	}
	unlock, err := w.Store.Lock(ctx, "layer "+l.DiffID.String())
	if err != nil {
		return "", err
	}
	defer unlock()
	if id, ok := w.find(l); ok { // unpacked by somebody else meanwhile
		return id, nil
	}
	id := layer.DiffIDName(l.DiffID)
	err = w.apply(ctx, l, id, out)
	if err == nil {
		err = w.checkList(ctx, l, id)
	}
	if err != nil {
		err = fmt.Errorf("unpack layer %s: %w", l.Blob.Digest, err)
		if ctx.Err() != nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return "", err
		}
		return "", &LayerError{l, err}
	}
	return id, nil
}

// LayerError reports a layer that was thought to be had and cannot be: its blob is
// gone, out of reach or damaged, or is not what was said of it.
type LayerError struct {
	Layer snapshot.Layer
	Err   error
}

func (e *LayerError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *LayerError) Unwrap() error { return e.Err }

// Distrust makes the worker have no result that needs the layer l, unless that is
// unpacked. It tells whether that is new.
func (w *Worker) Distrust(l snapshot.Layer) bool {
	_, known := w.distrusted.LoadOrStore(nameOf(l), struct{}{})
	w.has.Delete(nameOf(l))
	return !known
}

// nameOf is what tells l from every other layer.
func nameOf(l snapshot.Layer) string {
	name := string(l.ID) + l.DiffID.String()
	if l.Blob != nil {
		name += l.Blob.Digest.String()
	}
	return name
}

// apply fetches the blob of l and unpacks it as layer id while it arrives. The
// layer is published only when both digests were right.
func (w *Worker) apply(ctx context.Context, l snapshot.Layer, id snapshot.ID, out solver.Output) error {
	blob, err := w.Blobs.Open(ctx, *l.Blob)
	if err != nil {
		return err
	}
	defer blob.Close()
	counted := &counter{r: blob, blob: *l.Blob, out: out}
	tar, err := layertar.Decompress(counted)
	if err != nil {
		return err
	}
	defer tar.Close()
	draft, err := w.Pool.Draft()
	if err != nil {
		return err
	}
	defer draft.Close()
	hash := digest.SHA256.Digester()
	size := &countingWriter{w: hash.Hash()}
	content := io.TeeReader(tar, size)
	if err := layertar.Apply(ctx, draft, content); err != nil {
		// Damaged content fails in many ways; that it is damaged says more.
		if cerr := corruption(counted); cerr != nil {
			return cerr
		}
		return err
	}
	// What follows the archive's end counts for the digests too.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	if err := corruption(counted); err != nil {
		return err
	}
	if got := hash.Digest(); got != l.DiffID {
		return fmt.Errorf("its content has diff ID %s, but the image says %s", got, l.DiffID)
	}
	if err := draft.Commit(id); err != nil {
		return err
	}
	return w.Pool.SetInfo(id, layer.Info{DiffID: l.DiffID, Size: size.n})
}

// corruption reads r to its end and tells whether it was damaged.
func corruption(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// counter reports how much of a blob has been read.
type counter struct {
	r    io.Reader
	blob ocispec.Descriptor
	out  solver.Output
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.out != nil && n > 0 {
		c.out.Progress("unpacking "+short(c.blob.Digest), c.n, c.blob.Size)
	}
	return n, err
}

// countingWriter counts what passes through to w.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// short is the first twelve digits of d, by which people know it.
func short(d digest.Digest) string {
	_, hex, _ := strings.Cut(d.String(), ":")
	return hex[:min(len(hex), 12)]
}

// tree is what in stands for, to read from: a live source or its layers.
func (w *Worker) tree(ctx context.Context, in solver.Result, out solver.Output) (snapshot.Tree, error) {
	switch op := in.Source.(type) {
	case solver.Local:
		if t := w.Contexts[op.Name]; t != nil {
			return t, nil
		}
		return nil, fmt.Errorf("no context named %q", op.Name)
	case solver.Inline:
		return inlineTree(op), nil
	}
	return w.stack(ctx, in, out)
}

// stack is the layers of in as one tree.
func (w *Worker) stack(ctx context.Context, in solver.Result, out solver.Output) (*layer.Stack, error) {
	ids, err := w.Unpack(ctx, in.Layers, out)
	if err != nil {
		return nil, err
	}
	return w.Pool.Stack(ids)
}
