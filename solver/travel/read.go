package travel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/exporter"
)

// maxManifest bounds the manifests that are read, in bytes.
const maxManifest = 8 << 20

// maxPlatforms bounds how many images of an index are looked at.
const maxPlatforms = 16

// Read reads the cache that name stands for in repo: a cache manifest, or an image
// or an index of images that carries one. Nothing of the layers is read. A name
// that is not there is fs.ErrNotExist; other things that are not a cache are
// ErrNoCache, ErrForeign and ErrDamaged. Of a cache with two tags it is what either has.
func Read(ctx context.Context, repo cache.Repository, name string) (*Cache, error) {
	c, err := readTag(ctx, repo, name, nil)
	if digest.Digest(name).Validate() == nil || errors.Is(err, ErrNoCache) || err == nil && c.Image {
		return c, err
	}
	other, otherErr := readTag(ctx, repo, mate(name), c)
	switch {
	case otherErr != nil || other.Image:
		if c != nil {
			c.tags = []*Cache{c, newCache()}
		}
		return c, err
	case err != nil:
		other.tags = []*Cache{newCache(), other}
		return other, nil
	case other == c:
		c.tags = []*Cache{c, c}
		return c, nil
	}
	all := newCache()
	all.Root = c.Root
	all.tags = []*Cache{c, other}
	all.join(c)
	all.join(other)
	return all, nil
}

// readTag reads what a tag stands for, which may be known.
func readTag(ctx context.Context, repo cache.Repository, tag string, known *Cache) (*Cache, error) {
	root, err := repo.Resolve(ctx, tag)
	if err != nil {
		return nil, err
	}
	if known != nil && known.Root.Digest == root.Digest {
		return known, nil
	}
	return readRoot(ctx, repo, root)
}

// mate is the tag that a cache has beside the tag name, so that a single writer that
// is held up cannot make others lose anything.
func mate(name string) string {
	const suffix, longest = ".mate", 128 // distribution-spec, "Pulling manifests"
	if len(name)+len(suffix) <= longest {
		return name + suffix
	}
	hash := digest.FromString(name).Encoded()[:16]
	return name[:longest-len(suffix)-len(hash)] + hash + suffix
}

func readRoot(ctx context.Context, blobs cache.Blobs, root ocispec.Descriptor) (*Cache, error) {
	var c *Cache
	var err error
	switch {
	case exporter.IsIndex(root.MediaType):
		c, err = readIndex(ctx, blobs, root)
	case exporter.IsManifest(root.MediaType):
		c, err = readManifest(ctx, blobs, root)
	default:
		err = fmt.Errorf("%w: its media type is %q", ErrForeign, root.MediaType)
	}
	if err != nil {
		return nil, err
	}
	c.Root = root
	return c, nil
}

// manifest is a manifest of either kind.
type manifest struct {
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

func readManifest(ctx context.Context, blobs cache.Blobs, d ocispec.Descriptor) (*Cache, error) {
	var m manifest
	if err := readJSON(ctx, blobs, d, maxManifest, &m); err != nil {
		return nil, err
	}
	if len(m.Layers) > 2*maxLayers {
		return nil, fmt.Errorf("%w: %d layers", ErrDamaged, len(m.Layers))
	}
	switch {
	case m.Config.MediaType == ConfigType:
		data, err := readBlob(ctx, blobs, m.Config, maxRecords)
		if err != nil {
			return nil, err
		}
		doc, err := decode(data)
		if err != nil {
			return nil, err
		}
		return doc.cache(m.Layers), nil
	case exporter.IsConfig(m.Config.MediaType):
		var config imageConfig
		if err := readJSON(ctx, blobs, m.Config, maxRecords, &config); err != nil {
			return nil, err
		}
		c, err := config.inline(m.Layers)
		if err == nil {
			c.Image = true
		}
		return c, err
	case m.Config.MediaType == buildkitConfig:
		return nil, fmt.Errorf("%w: BuildKit wrote it", ErrForeign)
	}
	return nil, fmt.Errorf("%w: an artifact of type %q", ErrForeign, m.Config.MediaType)
}

// readIndex reads what the images of an index carry. It is an error if none does.
func readIndex(ctx context.Context, blobs cache.Blobs, d ocispec.Descriptor) (*Cache, error) {
	var m manifest
	if err := readJSON(ctx, blobs, d, maxManifest, &m); err != nil {
		return nil, err
	}
	all, found := newCache(), false
	all.Image = true
	for i, child := range m.Manifests {
		if child.MediaType == buildkitConfig {
			return nil, fmt.Errorf("%w: BuildKit wrote it", ErrForeign)
		}
		if i >= maxPlatforms || !exporter.IsManifest(child.MediaType) || exporter.IsAttestation(child) {
			continue
		}
		c, err := readManifest(ctx, blobs, child)
		if errors.Is(err, ErrNoCache) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
		all.join(c)
	}
	if !found {
		return nil, ErrNoCache
	}
	return all, nil
}

// join adds all of o to c.
func (c *Cache) join(o *Cache) {
	for _, s := range o.sorted() {
		c.add(s)
	}
	for d, blob := range o.held {
		c.held[d] = blob
	}
	for d, slot := range o.slots {
		if _, lies := c.slots[d]; !lies {
			c.slots[d] = slot
		}
	}
	maps.Copy(c.lists, o.lists)
	maps.Copy(c.unlisted, o.unlisted)
	for name, m := range o.mounts {
		if old := c.mounts[name]; old.Version == nil || old.before(m) {
			c.mounts[name] = m
		}
	}
	c.Dropped += o.Dropped
}

func readJSON(ctx context.Context, blobs cache.Blobs, d ocispec.Descriptor, limit int64, v any) error {
	data, err := readBlob(ctx, blobs, d, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// readBlob reads all of a small blob, verified.
func readBlob(ctx context.Context, blobs cache.Blobs, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%w: digest %q", ErrDamaged, d.Digest)
	}
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, d.Digest, d.Size)
	}
	r, err := blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	var damaged *cache.CorruptError
	if errors.As(err, &damaged) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return data, err
}
