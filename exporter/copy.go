package exporter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lamina/cache"
)

// defaultJobs is how many blobs travel at once: registries and disks gain
// little from more, and some registries throttle.
const defaultJobs = 4

// CopyOptions are the options of [Copy].
type CopyOptions struct {
	// Jobs is the number of blobs in transit at once; 0 means a usual number.
	Jobs int
	// Progress is told of every blob, also of those that dst had already.
	Progress cache.Progress
}

// Mounter is a destination that can take a blob from another repository of its
// own without a transfer. False means that it must be sent after all.
type Mounter interface {
	Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error)
}

// Originator is a source that knows which repositories hold a blob.
type Originator interface {
	Origins(d digest.Digest) []string
}

// Copy copies root and everything it refers to from src to dst: children before
// what refers to them, the root last, blobs in parallel. What dst has already is
// not sent. Interrupted at any moment it leaves dst without the root, and a
// second call goes on where the first stopped.
func Copy(ctx context.Context, dst, src cache.Blobs, root ocispec.Descriptor, opt CopyOptions) error {
	return newCopier(dst, src, opt).copy(ctx, root)
}

func newCopier(dst, src cache.Blobs, opt CopyOptions) *copier {
	c := &copier{dst: dst, src: src, progress: opt.Progress, jobs: opt.Jobs, seen: map[digest.Digest]bool{}}
	c.mounter, _ = dst.(Mounter)
	c.origins, _ = src.(Originator)
	if c.jobs <= 0 {
		c.jobs = defaultJobs
	}
	return c
}

func (c *copier) copy(ctx context.Context, root ocispec.Descriptor) error {
	if err := c.collect(ctx, root); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(c.jobs)
	for _, d := range c.leaves {
		group.Go(func() error { return c.leaf(gctx, d) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, doc := range c.documents {
		put := c.document
		if doc.desc.Digest == root.Digest && c.name != nil {
			put = c.name
		}
		if err := put(ctx, doc); err != nil {
			return err
		}
	}
	return nil
}

// blob is a document in memory.
type blob struct {
	desc ocispec.Descriptor
	data []byte
}

type copier struct {
	dst, src  cache.Blobs
	mounter   Mounter    // nil if dst is none
	origins   Originator // nil if src is none
	progress  cache.Progress
	jobs      int
	name      func(context.Context, blob) error // stores the root; nil if it has no name
	seen      map[digest.Digest]bool
	leaves    []ocispec.Descriptor // configs and layers
	documents []blob               // manifests and indexes, children first
}

// collect reads the documents beneath d and lists what is to be copied.
func (c *copier) collect(ctx context.Context, d ocispec.Descriptor) error {
	if c.seen[d.Digest] {
		return nil
	}
	c.seen[d.Digest] = true
	if isSchema1(d.MediaType) {
		return fmt.Errorf("copy %s: %w", d.Digest, errSchema1)
	}
	if !IsManifest(d.MediaType) && !IsIndex(d.MediaType) {
		c.leaves = append(c.leaves, d)
		return nil
	}
	data, err := readBlob(ctx, c.src, d)
	if err != nil {
		return err
	}
	doc, err := parseDocument(d, data)
	if err != nil {
		return err
	}
	for _, child := range doc.children() {
		if err := c.collect(ctx, child); err != nil {
			return err
		}
	}
	c.documents = append(c.documents, blob{d, data})
	return nil
}

// leaf brings one config or layer to dst, by the cheapest way that works.
func (c *copier) leaf(ctx context.Context, d ocispec.Descriptor) error {
	if done, err := c.has(ctx, d); err != nil || done {
		return err
	}
	if done, err := c.mount(ctx, d); err != nil || done {
		return err
	}
	r := &source{desc: d, progress: c.progress, open: func() (io.ReadCloser, error) { return c.src.Open(ctx, d) }}
	defer r.Close()
	_, err := r.Seek(0, io.SeekStart)
	if errors.Is(err, fs.ErrNotExist) && isForeign(d.MediaType) && len(d.URLs) > 0 {
		return nil // it stays where its URLs say
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", d.Digest, err)
	}
	return c.put(ctx, d, r)
}

func (c *copier) document(ctx context.Context, b blob) error {
	if done, err := c.has(ctx, b.desc); err != nil || done {
		return err
	}
	return c.put(ctx, b.desc, bytes.NewReader(b.data))
}

func (c *copier) put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := c.dst.Put(ctx, d, r); err != nil {
		return fmt.Errorf("copy %s: %w", d.Digest, err)
	}
	c.report(d)
	return nil
}

func (c *copier) has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	ok, err := c.dst.Has(ctx, d)
	if err != nil {
		return false, fmt.Errorf("copy %s: %w", d.Digest, err)
	}
	if ok {
		c.report(d)
	}
	return ok, nil
}

// mount tries the repositories that hold d. A refusal is no error: the blob can
// still be sent.
func (c *copier) mount(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if c.mounter == nil || c.origins == nil {
		return false, nil
	}
	for _, from := range c.origins.Origins(d.Digest) {
		ok, err := c.mounter.Mount(ctx, d, from)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if ok && err == nil {
			c.report(d)
			return true, nil
		}
	}
	return false, nil
}

func (c *copier) report(d ocispec.Descriptor) {
	if c.progress != nil {
		c.progress(d, d.Size)
	}
}
