package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/exporter"
)

// listImages lists the images and indexes. Those with a name are never removed.
func (inv *inventory) listImages(ctx context.Context) error {
	roots, err := inv.store.Names(ctx)
	if err != nil {
		return err
	}
	byRoot := map[digest.Digest]*holder{}
	for _, r := range roots {
		h := byRoot[r.Root.Digest]
		if h == nil {
			h = &holder{kind: Image, id: r.Root.Digest.Encoded(), root: r.Root.Digest, pinned: r.Name != ""}
			if u := inv.blobs[r.Root.Digest.Encoded()]; u != nil {
				h.made, h.used = u.made, u.made
			}
			byRoot[r.Root.Digest] = inv.hold(h)
			if err := inv.addImage(ctx, h, r.Root); err != nil {
				return err
			}
		}
		if r.Name != "" {
			h.title = strings.TrimPrefix(h.title+", "+r.Name, ", ")
		}
	}
	return nil
}

// addImage makes h need all that root refers to, and the layers that are unpacked
// of it. What is not in the store is not needed.
func (inv *inventory) addImage(ctx context.Context, h *holder, root ocispec.Descriptor) error {
	seen := map[digest.Digest]bool{}
	var visit func(d ocispec.Descriptor) error
	visit = func(d ocispec.Descriptor) error {
		if seen[d.Digest] {
			return nil
		}
		seen[d.Digest] = true
		h.needs(inv.blobs[d.Digest.Encoded()])
		inv.canBeHad(h, d.Digest.Encoded())
		children, err := exporter.Children(ctx, looking{inv.store}, d)
		var damaged *cache.CorruptError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", d.Digest, err)
		}
		for _, child := range children {
			if err := visit(child); err != nil {
				return err
			}
		}
		if !exporter.IsManifest(d.MediaType) {
			return nil
		}
		img, err := exporter.ReadImage(ctx, looking{inv.store}, d, ocispec.Platform{})
		if err != nil {
			// An artifact, or its configuration is not here. Layers that are collected
			// by mistake are unpacked again from their blobs.
			return ctx.Err()
		}
		for _, l := range img.Layers {
			h.needs(inv.unpacked(l.DiffID))
		}
		return nil
	}
	return visit(root)
}

// looking is the store's blobs for who only looks at them: what is damaged stays.
type looking struct{ *cache.Store }

func (l looking) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	f, err := os.Open(l.Path("blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	return cache.Verify(f, d), nil
}
