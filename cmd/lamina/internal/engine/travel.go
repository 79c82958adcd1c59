package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/registry"
	"lamina/exporter"
	"lamina/exporter/archive"
	"lamina/solver/travel"
)

// Place is where a build cache lies: under a name in a registry, or in a directory.
type Place struct {
	Name registry.Name
	Dir  string // of an OCI layout, instead of Name
	Tag  string // in Dir: a tag or a digest
}

func (p Place) String() string {
	if p.Dir != "" {
		return p.Dir
	}
	return p.Name.Familiar()
}

// origin is what the store calls the place.
func (p Place) origin() (string, error) {
	if p.Dir == "" {
		return p.Name.Origin(), nil
	}
	dir, err := filepath.Abs(p.Dir)
	return layoutOrigin + url.PathEscape(dir), err
}

// layoutOrigin begins the origins that are OCI layouts on this machine.
const layoutOrigin = "oci-layout:"

// IsOrigin tells whether origin, which the store has of a blob, names a place at all.
func IsOrigin(origin string) bool {
	if escaped, ok := strings.CutPrefix(origin, layoutOrigin); ok {
		dir, err := url.PathUnescape(escaped)
		return err == nil && strings.HasPrefix(dir, "/")
	}
	_, err := registry.ParseName(origin)
	return err == nil
}

// openOrigin returns the blobs of a repository ("registry/path") or a layout, or those
// in a bundle, which is fetched from wherever it is.
func (e *Engine) openOrigin(origin string) (cache.Blobs, error) {
	if slot, _, ok := travel.ParseOrigin(origin); ok {
		return slot.In(bundles{e}), nil
	}
	escaped, isLayout := strings.CutPrefix(origin, layoutOrigin)
	if !isLayout {
		return e.repository(origin)
	}
	dir, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("origin %q: %w", origin, err)
	}
	return layoutDir(dir), nil
}

// bundles are the bundles of caches. They are fetched as they are, and never out of
// others, whatever the store was told: who waits for one has no other to wait for.
type bundles struct{ *Engine }

func (b bundles) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	return b.Blobs.Has(ctx, d)
}

// Open returns the bundle from the store, into which it is fetched if it is not there.
func (b bundles) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	unlock, err := b.Store.Lock(ctx, "bundle "+d.Digest.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if ok, err := b.Store.Has(ctx, d); err != nil || ok {
		return b.Store.Open(ctx, d)
	}
	err = fmt.Errorf("bundle %s: %w", d.Digest, fs.ErrNotExist)
	for _, origin := range b.Store.Origins(d.Digest) {
		if _, _, slot := travel.ParseOrigin(origin); slot {
			continue
		}
		if err = b.fetch(ctx, origin, d); err == nil {
			return b.Store.Open(ctx, d)
		}
	}
	return nil, err
}

func (b bundles) fetch(ctx context.Context, origin string, d ocispec.Descriptor) error {
	remote, err := b.openOrigin(origin)
	if err != nil {
		return err
	}
	r, err := remote.Open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	return b.Store.Put(ctx, d, r)
}

func (b bundles) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	return b.Store.Put(ctx, d, r)
}

// layoutDir is the blobs of a layout in this directory, which is open only while
// one is being opened.
type layoutDir string

func (dir layoutDir) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	l, err := archive.OpenLayout(string(dir))
	if err != nil {
		return false, err
	}
	defer l.Close()
	return l.Has(ctx, d)
}

func (dir layoutDir) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	l, err := archive.OpenLayout(string(dir))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Open(ctx, d)
}

// Put fails: origins are read from.
func (dir layoutDir) Put(context.Context, ocispec.Descriptor, io.Reader) error {
	return fmt.Errorf("put a blob into %s: %w", string(dir), errors.ErrUnsupported)
}

// ImportCache reads the build cache at a place. What lies there can be fetched from
// then on, once a step is found whose result needs it.
func (e *Engine) ImportCache(ctx context.Context, p Place) (*travel.Cache, *travel.Index, error) {
	origin, err := p.origin()
	if err != nil {
		return nil, nil, err
	}
	found, err := e.ReadCache(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	return found, travel.NewIndex(found, func(d digest.Digest, in *travel.Slot) error {
		if in == nil || in.Bundle.Digest == d { // one that is alone in its bundle is the bundle
			return e.Store.AddOrigin(d, origin)
		}
		err := e.Store.AddOrigin(in.Bundle.Digest, origin)
		if in.Bundle.Digest == d { // a bundle of one is that one
			return err
		}
		return errors.Join(err, e.Store.AddOrigin(d, in.Origin(origin)))
	}), nil
}

// ReadCache reads the build cache at a place.
func (e *Engine) ReadCache(ctx context.Context, p Place) (*travel.Cache, error) {
	if p.Dir != "" {
		return travel.ReadLayout(ctx, p.Dir, p.Tag)
	}
	repo, err := e.Registry.Repository(p.Name)
	if err != nil {
		return nil, err
	}
	return travel.Read(ctx, repo, p.Name.Reference())
}

// CacheBlobs returns what lies where the build cache at a place does.
func (e *Engine) CacheBlobs(p Place) (cache.Blobs, error) {
	if p.Dir != "" {
		return layoutDir(p.Dir), nil
	}
	return e.Registry.Repository(p.Name)
}

// ExportCache adds steps to the build cache at a place.
func (e *Engine) ExportCache(ctx context.Context, p Place, steps *travel.Cache, opt travel.Options) (travel.Report, error) {
	if p.Dir != "" {
		return travel.WriteLayout(ctx, p.Dir, p.Tag, e.Blobs, steps, opt)
	}
	repo, err := e.Registry.Repository(p.Name)
	if err != nil {
		return travel.Report{}, err
	}
	report, err := travel.Write(ctx, repo, p.Name.Reference(), e.Blobs, steps, opt)
	if err != nil {
		return report, err
	}
	// From now on each layer can be mounted from there, or fetched again.
	return report, steps.Each(func(d ocispec.Descriptor) error { return e.Store.AddOrigin(d.Digest, p.Name.Origin()) })
}

// Referring is the store as one that has a layer once it is known where that is: an
// image that is put there is not fetched for it, but when somebody uses it.
func (e *Engine) Referring() cache.Repository { return referring{e.Store, e.Blobs} }

type referring struct {
	*cache.Store
	lazy *cache.Lazy
}

func (r referring) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if exporter.IsLayer(d.MediaType) {
		return r.lazy.Has(ctx, d)
	}
	return r.Store.Has(ctx, d)
}
