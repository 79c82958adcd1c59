package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cmd/lamina/internal/builds"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/solver"
)

// refs is what something refers to, directly or not.
type refs struct {
	blobs  map[digest.Digest]bool
	layers map[snapshot.ID]bool
}

func newRefs() *refs {
	return &refs{map[digest.Digest]bool{}, map[snapshot.ID]bool{}}
}

// used returns what the roots, the records and the remembered builds refer to.
func (c *collector) used(ctx context.Context) (*refs, error) {
	all := newRefs()
	roots, err := c.store.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range roots {
		if err := c.image(ctx, r.Root, all); err != nil {
			return nil, err
		}
	}
	if err := builds.In(c.store).Blobs(func(d digest.Digest) { all.blobs[d] = true }); err != nil {
		return nil, err
	}
	err = c.eachRecord(func(k cache.Key, path string) error {
		data, err := c.store.Index().Get(ctx, k)
		if errors.Is(err, fs.ErrNotExist) {
			c.report.Records++
			return c.remove(path) // damaged
		}
		if err != nil {
			return err
		}
		return c.record(ctx, data, path, all)
	})
	return all, err
}

// eachRecord calls fn for each record with its key and its file.
func (c *collector) eachRecord(fn func(k cache.Key, path string) error) error {
	shards, err := os.ReadDir(c.store.Path("index"))
	if err != nil {
		return err
	}
	for _, shard := range shards {
		records, err := os.ReadDir(c.store.Path("index", shard.Name()))
		if err != nil {
			return err
		}
		for _, r := range records {
			k := digest.NewDigestFromEncoded(digest.SHA256, r.Name())
			if k.Validate() != nil {
				continue // not ours
			}
			if err := fn(k, c.store.Path("index", shard.Name(), r.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// record adds what one record refers to. There are three kinds: results of steps,
// downloads, which have a result too, and the descriptors that registries answered
// for base images.
func (c *collector) record(ctx context.Context, data []byte, path string, all *refs) error {
	var kind struct {
		Version *int           `json:"v"`
		Result  *solver.Result `json:"result"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil // of somebody who knows what it means
	}
	switch {
	case kind.Version == nil && kind.Result != nil:
		return c.stack(kind.Result.Layers, all)
	case kind.Version == nil:
		var d ocispec.Descriptor
		if err := json.Unmarshal(data, &d); err != nil || d.Digest.Validate() != nil {
			return nil
		}
		return c.image(ctx, d, all)
	}
	r, err := solver.DecodeRecord(data)
	if err != nil { // of another version of lamina: it can never be a hit again
		c.report.Records++
		return c.remove(path)
	}
	for _, in := range r.Inputs {
		for _, d := range in.Read.Parts {
			all.blobs[d.Digest] = true
		}
	}
	return c.stack(r.Result.Layers, all)
}

// stack adds layers, and where they come from.
func (c *collector) stack(layers []snapshot.Layer, all *refs) error {
	for _, l := range layers {
		if l.ID != "" {
			all.layers[l.ID] = true
		}
		if l.Blob != nil {
			all.blobs[l.Blob.Digest] = true
		}
		if err := c.unpacked(l.DiffID, all); err != nil {
			return err
		}
	}
	return nil
}

// image adds what root refers to, and the layers that are unpacked of it. What
// is not in the store has nothing to add.
func (c *collector) image(ctx context.Context, root ocispec.Descriptor, all *refs) error {
	if all.blobs[root.Digest] {
		return nil
	}
	all.blobs[root.Digest] = true
	children, err := exporter.Children(ctx, c.store, root)
	var damaged *cache.CorruptError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", root.Digest, err)
	}
	for _, d := range children {
		if err := c.image(ctx, d, all); err != nil {
			return err
		}
	}
	if !exporter.IsManifest(root.MediaType) {
		return nil
	}
	img, err := exporter.ReadImage(ctx, c.store, root, ocispec.Platform{})
	if err != nil {
		// An artifact, or its configuration is not here. Layers that are collected
		// by mistake are unpacked again from their blobs.
		return ctx.Err()
	}
	for _, l := range img.Layers {
		if err := c.unpacked(l.DiffID, all); err != nil {
			return err
		}
	}
	return nil
}

// unpacked adds the unpacked layer with this diff ID, if there is one.
func (c *collector) unpacked(diffID digest.Digest, all *refs) error {
	if diffID == "" {
		return nil
	}
	id, err := c.pool.Find(diffID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	all.layers[id] = true
	return nil
}
