// Package exporter turns what a build made into images, and moves images about.
//
// [Pack] writes layers, configuration and manifest as blobs into a store; what
// it returns is the root of an image. From then on everything is one operation,
// because a store, a registry, an archive and a layout are all repositories:
// [Copy] the blobs, then set the name.
//
//	root, err := exporter.Pack(ctx, outputs, pool, store, exporter.PackOptions{})
//	err = exporter.To(store, "docker.io/library/app:latest").Export(ctx, store, root)   // tag
//	err = exporter.To(registry, "latest").Export(ctx, store, root)                      // push
//	image, err := exporter.ReadImage(ctx, store, root, platform)                        // and back
//
// Packages exporter/archive and exporter/dir write the forms that have no names
// of their own to set: archives, image layouts and plain directories.
package exporter

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Exporter puts images into one repository under some names. Push, pull, save,
// load and tag are all this.
type Exporter struct {
	Dst   cache.Repository
	Names []string // none: the image is copied and can be had by its digest
	Copy  CopyOptions
}

// To returns an exporter to dst under names, with the default options.
func To(dst cache.Repository, names ...string) Exporter {
	return Exporter{Dst: dst, Names: names}
}

// Namer is a repository that takes a manifest or an index together with a name for
// it, which saves a request.
type Namer interface {
	// PutNamed stores data, which d describes, and makes name stand for it.
	PutNamed(ctx context.Context, name string, d ocispec.Descriptor, data []byte) error
}

// Export copies the graph of root from src and then sets the names. After an
// error no name has been set that would stand for an incomplete image.
func (e Exporter) Export(ctx context.Context, src cache.Blobs, root ocispec.Descriptor) error {
	c := newCopier(e.Dst, src, e.Copy)
	if namer, ok := e.Dst.(Namer); ok && len(e.Names) > 0 {
		c.name = func(ctx context.Context, b blob) error {
			for _, name := range e.Names {
				if err := namer.PutNamed(ctx, name, b.desc, b.data); err != nil {
					return err
				}
			}
			c.report(b.desc)
			return nil
		}
		return c.copy(ctx, root)
	}
	if err := c.copy(ctx, root); err != nil {
		return err
	}
	for _, name := range e.Names {
		if err := e.Dst.Tag(ctx, name, root); err != nil {
			return err
		}
	}
	return nil
}
