// Package collect removes from a store what nothing refers to.
//
// Two things refer to others: the roots of the store (images and indexes, with or
// without a name) and the records of the build cache. A blob or an unpacked layer
// that is reachable from neither is garbage. While it is looked for nobody else
// may use the store, since nobody refers yet to what is just being made.
package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot/layer"
	"lamina/solver/local"
)

// Options say what counts as garbage.
type Options struct {
	// Cache makes garbage of the whole build cache: the records, what only they
	// refer to, the cache mounts, and what was fetched from Git repositories.
	Cache bool
}

// Report says what was removed.
type Report struct {
	Images  []digest.Digest // roots that had no name
	Blobs   int
	Layers  int
	Records int
	Bytes   int64 // that were freed
}

// Prune removes the images without a name, and all garbage. It is cache.ErrInUse
// while another process uses the store.
func Prune(ctx context.Context, store *cache.Store, pool *layer.Pool, opt Options) (Report, error) {
	c := collector{store: store, pool: pool}
	unlock, err := store.Exclusive()
	if err != nil {
		return c.report, err
	}
	defer unlock()
	if err := c.forgetUnnamed(ctx); err != nil {
		return c.report, err
	}
	if opt.Cache {
		if err := c.dropCache(); err != nil {
			return c.report, err
		}
	}
	keep, err := c.used(ctx)
	if err != nil {
		return c.report, err
	}
	return c.report, c.sweepAll(ctx, keep)
}

// Images removes what images that the store no longer has, of these roots,
// referred to and nothing else does. It is cache.ErrInUse while another process
// uses the store.
func Images(ctx context.Context, store *cache.Store, pool *layer.Pool, gone []ocispec.Descriptor) (Report, error) {
	c := collector{store: store, pool: pool}
	unlock, err := store.Exclusive()
	if err != nil {
		return c.report, err
	}
	defer unlock()
	keep, err := c.used(ctx)
	if err != nil {
		return c.report, err
	}
	candidates := newRefs()
	for _, root := range gone {
		if err := c.image(ctx, root, candidates); err != nil {
			return c.report, err
		}
	}
	return c.report, c.sweep(ctx, candidates, keep)
}

// collector is one collection; the store is its alone.
type collector struct {
	store  *cache.Store
	pool   *layer.Pool
	report Report
}

func (c *collector) forgetUnnamed(ctx context.Context) error {
	roots, err := c.store.Names(ctx)
	if err != nil {
		return err
	}
	for _, r := range roots {
		if r.Name != "" {
			continue
		}
		if err := c.store.Forget(ctx, r.Root.Digest); err != nil {
			return err
		}
		c.report.Images = append(c.report.Images, r.Root.Digest)
	}
	return nil
}

// dropCache removes the records, the cache mounts and the Git repositories.
func (c *collector) dropCache() error {
	err := c.eachRecord(func(_ cache.Key, path string) error {
		c.report.Records++
		return c.remove(path)
	})
	if err != nil {
		return err
	}
	mounts, err := os.ReadDir(c.store.Path("mounts"))
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := c.remove(c.store.Path("mounts", m.Name())); err != nil {
			return err
		}
	}
	return c.remove(c.store.Path(local.GitDir))
}

// sweepAll removes everything but keep.
func (c *collector) sweepAll(ctx context.Context, keep *refs) error {
	all := newRefs()
	blobs, err := os.ReadDir(c.store.Path("blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, b := range blobs {
		all.blobs[digest.NewDigestFromEncoded(digest.SHA256, b.Name())] = true
	}
	layers, err := c.pool.List()
	if err != nil {
		return err
	}
	for _, id := range layers {
		all.layers[id] = true
	}
	return c.sweep(ctx, all, keep)
}

// sweep removes the candidates but keep.
func (c *collector) sweep(ctx context.Context, candidates, keep *refs) error {
	for d := range candidates.blobs {
		if keep.blobs[d] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n := c.report.Bytes
		if err := c.remove(c.store.Path("blobs", "sha256", d.Encoded())); err != nil {
			return err
		}
		if c.report.Bytes > n {
			c.report.Blobs++
		}
		if err := c.store.DropOrigins(d); err != nil {
			return err
		}
	}
	for id := range candidates.layers {
		if keep.layers[id] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		size, err := diskUsage(c.store.Path("layers", string(id)))
		if err != nil {
			return err
		}
		if err := c.pool.Remove(id); err != nil {
			return fmt.Errorf("remove layer %s: %w", id, err)
		}
		c.report.Layers++
		c.report.Bytes += size
	}
	return nil
}

// remove removes path and counts what that frees. A missing one is no error.
func (c *collector) remove(path string) error {
	size, err := diskUsage(path)
	if err != nil {
		return err
	}
	if err := cache.RemoveAll(path); err != nil {
		return err
	}
	c.report.Bytes += size
	return nil
}

// diskUsage is the number of bytes that the files beneath path take on the disk.
func diskUsage(path string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			const block = 512 // of stat(2), whatever the filesystem's blocks are
			sum += st.Blocks * block
		}
		return nil
	})
	return sum, err
}
