package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter"
	"lamina/snapshot/layer"
)

// catalog reads the images of the store. Names in the store are canonical:
// docker.io/library/app:latest.
type catalog struct {
	store *cache.Store
	pool  *layer.Pool
}

// storedImage is a root of the store with its names: an image, or an index whose
// image for this machine, or else whose first, stands for all.
type storedImage struct {
	Root  ocispec.Descriptor
	Names []registry.Name // sorted; none if the image is dangling
	exporter.Image
}

// openCatalog opens the store's images for reading.
func openCatalog(store *cache.Store) (*catalog, error) {
	pool, err := layer.OpenPool(store.Path("layers"), store.Temp)
	if err != nil {
		return nil, err
	}
	return &catalog{store, pool}, nil
}

// ID is what people know the image by: the digest of its configuration, as in
// docker's classic store, or that of the index if it is for several platforms.
func (i *storedImage) ID() digest.Digest {
	if exporter.IsIndex(i.Root.MediaType) {
		return i.Root.Digest
	}
	return i.ConfigDesc.Digest
}

// Created is when the image was made; zero if it does not say.
func (i *storedImage) Created() time.Time {
	if i.Config.Created == nil {
		return time.Time{}
	}
	return *i.Config.Created
}

// shortID is the first twelve digits of d.
func shortID(d digest.Digest) string {
	_, hex, ok := strings.Cut(d.String(), ":")
	if !ok {
		hex = d.String()
	}
	return hex[:min(12, len(hex))]
}

// roots returns the roots of the store with their names, the latest named first.
func (c *catalog) roots(ctx context.Context) ([]storedImage, error) {
	named, err := c.store.Names(ctx)
	if err != nil {
		return nil, err
	}
	var all []storedImage
	for _, n := range slices.Backward(named) {
		i := slices.IndexFunc(all, func(s storedImage) bool { return s.Root.Digest == n.Root.Digest })
		if i < 0 {
			i = len(all)
			all = append(all, storedImage{Root: n.Root})
		}
		if n.Name == "" {
			continue
		}
		name, err := registry.ParseName(n.Name)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		all[i].Names = append(all[i].Names, name)
	}
	for _, s := range all {
		slices.SortFunc(s.Names, func(a, b registry.Name) int { return strings.Compare(a.String(), b.String()) })
	}
	return all, nil
}

// read reads the image that i.Root stands for.
func (c *catalog) read(ctx context.Context, i *storedImage, p ocispec.Platform) (err error) {
	i.Image, err = exporter.ReadImage(ctx, c.store, i.Root, p)
	if err != nil && exporter.IsIndex(i.Root.MediaType) {
		all, lerr := exporter.Manifests(ctx, c.store, i.Root)
		if lerr != nil || len(all) == 0 {
			return err
		}
		i.Image, err = exporter.ReadImage(ctx, c.store, all[0], p)
	}
	return err
}

// list reads all images, the latest named first. Those that cannot be read are
// passed to damaged and left out.
func (c *catalog) list(ctx context.Context, damaged func(storedImage, error)) ([]storedImage, error) {
	roots, err := c.roots(ctx)
	if err != nil {
		return nil, err
	}
	var all []storedImage
	for _, i := range roots {
		if err := c.read(ctx, &i, ocispec.Platform{}); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			damaged(i, err)
			continue
		}
		all = append(all, i)
	}
	return all, nil
}

// find returns the image that ref stands for: a name, or the beginning of an ID
// or of a digest. An unknown one is fs.ErrNotExist.
func (c *catalog) find(ctx context.Context, ref string) (storedImage, error) {
	i, _, err := c.locate(ctx, ref)
	if err == nil {
		err = c.read(ctx, &i, ocispec.Platform{})
	}
	return i, err
}

// locate is find without reading the image. If ref is a name, it is returned as
// the store has it.
func (c *catalog) locate(ctx context.Context, ref string) (storedImage, *registry.Name, error) {
	roots, err := c.roots(ctx)
	if err != nil {
		return storedImage{}, nil, err
	}
	name, nameErr := registry.ParseName(ref)
	if nameErr == nil {
		for _, i := range roots {
			for _, have := range i.Names {
				if isNamed(i, have, name) {
					return i, &have, nil
				}
			}
		}
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	found, err := c.byID(ctx, roots, prefix)
	if err != nil {
		return storedImage{}, nil, fmt.Errorf("%s: %w", ref, err)
	}
	switch {
	case found != nil:
		return *found, nil, nil
	case isHex(prefix):
		return storedImage{}, nil, &noImageError{ref: ref}
	case nameErr != nil:
		return storedImage{}, nil, nameErr
	}
	return storedImage{}, nil, &noImageError{name.Familiar(), true}
}

// isNamed tells whether want means the image i under its name have: the very
// name, or its repository with the digest of its root.
func isNamed(i storedImage, have, want registry.Name) bool {
	if have == want {
		return true
	}
	return want.Digest == i.Root.Digest && have.Origin() == want.Origin() && (want.Tag == "" || want.Tag == have.Tag)
}

// byID returns the one image whose ID or root begins with prefix, or nil.
func (c *catalog) byID(ctx context.Context, roots []storedImage, prefix string) (*storedImage, error) {
	if !isHex(prefix) {
		return nil, nil
	}
	var found *storedImage
	for _, i := range roots {
		matches := strings.HasPrefix(i.Root.Digest.Encoded(), prefix)
		if err := c.read(ctx, &i, ocispec.Platform{}); err == nil { // one that is damaged has no ID
			matches = matches || strings.HasPrefix(i.ID().Encoded(), prefix)
		}
		if !matches {
			continue
		}
		if found != nil && found.ID() != i.ID() {
			return nil, errors.New("more than one image has an ID that begins so")
		}
		if found == nil {
			found = &i
		}
	}
	return found, ctx.Err()
}

// noImageError says that the store has no image of that name or ID.
type noImageError struct {
	ref     string
	canPull bool // it is a name
}

func (e *noImageError) Error() string { return "no such image: " + e.ref }

// Is makes the error an fs.ErrNotExist.
func (e *noImageError) Is(target error) bool { return target == fs.ErrNotExist }

// Hint says what can be done.
func (e *noImageError) Hint() string {
	if e.canPull {
		return fmt.Sprintf("'lamina images' lists what there is, 'lamina pull %s' fetches it", e.ref)
	}
	return "'lamina images' lists what there is"
}

func isHex(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// layerSizes returns the size of each of the image's layers: of its files as far
// as that is known on this machine, of its compressed form otherwise.
func (c *catalog) layerSizes(i *storedImage) ([]int64, error) {
	sizes := make([]int64, len(i.Layers))
	for n, l := range i.Layers {
		sizes[n] = l.Blob.Size
		id, err := c.pool.Find(l.DiffID)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		dir, err := c.pool.Open(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		info, err := dir.Info()
		if err != nil {
			return nil, err
		}
		if info.Size > 0 {
			sizes[n] = info.Size
		}
	}
	return sizes, nil
}

// size is the sum of layerSizes.
func (c *catalog) size(i *storedImage) (int64, error) {
	sizes, err := c.layerSizes(i)
	var sum int64
	for _, n := range sizes {
		sum += n
	}
	return sum, err
}

// choose reads the image for the platform that a flag names, if it does.
func (c *catalog) choose(ctx context.Context, e *cli.Env, i *storedImage, flag string) error {
	if flag == "" {
		return nil
	}
	p, err := e.Platform(flag)
	if err != nil {
		return err
	}
	i.Image, err = exporter.ReadImage(ctx, c.store, i.Root, p)
	return err
}
