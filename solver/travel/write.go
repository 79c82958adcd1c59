package travel

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/mounts"
	"lamina/exporter"
)

// A tag is all that a registry offers to share: whoever writes it last wins, and
// no write can be made to depend on what is there. Writers therefore
//
//	1. read the tag, and add their steps to what it has
//	2. send everything, so that only the tag is left to be set
//	3. ask whether the tag is still what they read, or else begin again
//	4. set it
//	5. wait for longer than anybody needs from 3 to 4
//	6. ask whether it still is what they set, or else see whether it has their steps
//
// Whoever began before 4 and did not see our steps has overwritten them by 6, where
// we notice; whoever began later has them. What is set carries a random number, so
// that nobody mistakes the write of another for their own. Reported is only what was
// found at 6. The one assumption is the wait, which adapts to how slow the registry
// is; a writer that is stopped between 3 and 4 for longer can lose steps of others,
// which are then executed again, and stored.

var errImage = errors.New("there is an image under this name, which is not overwritten: give the cache a tag of its own, such as cache")

// Settling of Options.Settle that is zero.
const (
	settle = 500 * time.Millisecond
	// slack is how much slower than we another writer may be.
	slack = 4
	// attempts is how often a tag is written that others overwrite.
	attempts = 12
)

// Options are the options of [Write].
type Options struct {
	// DockerTypes writes docker's media types instead of OCI's.
	DockerTypes bool
	// Alone says that nobody else writes meanwhile: the caller has a lock.
	Alone bool
	// Settle is the least time for which what is written must stand; 0 is usual.
	Settle time.Duration
	// Known is what the name stood for when it was last read; it may be nil.
	Known *Cache
	// Progress is told of every blob.
	Progress cache.Progress
	// Replacing is told, if it is not nil, of what cannot be kept because it cannot
	// be read.
	Replacing func(err error)
}

// Report says what Write did.
type Report struct {
	Root    ocispec.Descriptor // what the name stands for
	Written bool               // false if it had everything
	Steps   int                // that are there now, those of others included
	Old     ocispec.Descriptor // what was replaced; zero if nothing was
	Mounts  []*mounts.Version  // the cache mounts that are there now
}

// Write adds own to the cache that name stands for in dst. Layers that are there are
// not sent, nor are those that dst can take from another repository of its own. Any
// number of writers may do this at the same time. An image is never overwritten.
func Write(ctx context.Context, dst cache.Repository, name string, src cache.Blobs, own *Cache, opt Options) (Report, error) {
	if opt.Settle == 0 {
		opt.Settle = settle
	}
	w := &writer{dst: dst, name: name, src: src, own: own, opt: opt, known: opt.Known}
	for try := range attempts {
		report, done, err := w.try(ctx)
		if err != nil || done {
			return report, err
		}
		// Those who wait the same time would meet again.
		if err := sleep(ctx, jitter(opt.Settle/4*time.Duration(try+1))); err != nil {
			return Report{}, err
		}
	}
	return Report{}, fmt.Errorf("others overwrote %s %d times: give some of the builds a name of their own", name, attempts)
}

type writer struct {
	dst   cache.Repository
	name  string
	src   cache.Blobs
	own   *Cache
	opt   Options
	known *Cache // read from the tag before
}

// try goes once through the steps above. It is not done if others came between.
func (w *writer) try(ctx context.Context) (r Report, done bool, err error) {
	there, err := w.read(ctx)
	if err != nil {
		return r, false, err
	}
	if there.Root.Digest != "" && there.has(w.own) {
		return Report{Root: there.Root, Steps: there.Steps(), Mounts: there.Mounts()}, true, nil
	}
	all := merge(there, w.own, time.Now())
	root, err := w.send(ctx, all, there)
	if err != nil && len(there.held)+len(w.own.slots)+len(w.own.mounts) > 0 && ctx.Err() == nil {
		// Perhaps it lost a layer that the manifest says is there, or another place the
		// bundle that it had.
		w.replacing(err)
		w.own.slots = map[digest.Digest]Slot{}
		w.own.forgetBorrowed()
		all = merge(newCache(), w.own, time.Now())
		root, err = w.send(ctx, all, newCache())
	}
	if err != nil {
		return r, false, err
	}
	r = Report{Root: root, Written: true, Steps: all.Steps(), Old: there.Root, Mounts: all.Mounts()}
	if w.opt.Alone {
		return r, true, w.dst.Tag(ctx, w.name, root)
	}
	begin := time.Now()
	if now, err := w.resolve(ctx); err != nil || now.Digest != there.Root.Digest {
		return r, false, err
	}
	if err := w.dst.Tag(ctx, w.name, root); err != nil {
		return r, false, err
	}
	stands, err := w.stands(ctx, root, max(w.opt.Settle, slack*time.Since(begin)))
	return r, stands, err
}

// stands waits and tells whether what was written was not lost. Who merged it into
// something newer may themselves have been overwritten, so that has to stand, too.
func (w *writer) stands(ctx context.Context, root ocispec.Descriptor, wait time.Duration) (bool, error) {
	for range attempts {
		if err := sleep(ctx, wait); err != nil {
			return false, err
		}
		now, err := w.resolve(ctx)
		if err != nil {
			return false, err
		}
		if now.Digest == root.Digest {
			return true, nil
		}
		there, err := w.read(ctx)
		if err != nil || there.Root.Digest == "" || !there.has(w.own) {
			return false, err
		}
		root = there.Root
	}
	return true, nil // it was seen each time: there are just many writers
}

// resolve returns what the name stands for; nothing is no error.
func (w *writer) resolve(ctx context.Context) (ocispec.Descriptor, error) {
	d, err := w.dst.Resolve(ctx, w.name)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, nil
	}
	return d, err
}

// read reads what is there. What is no cache of ours is replaced, unless it is an
// image.
func (w *writer) read(ctx context.Context) (*Cache, error) {
	root, err := w.resolve(ctx)
	if err != nil || root.Digest == "" {
		return newCache(), err
	}
	there := w.known
	if there == nil || there.Root.Digest != root.Digest {
		there, err = readRoot(ctx, w.dst, root)
	}
	switch {
	case errors.Is(err, ErrNoCache), err == nil && there.Image:
		return nil, errImage
	case errors.Is(err, ErrForeign), errors.Is(err, ErrDamaged), errors.Is(err, fs.ErrNotExist):
		w.replacing(err)
		there = newCache()
		there.Root = root
	case err != nil:
		return nil, err
	}
	w.known = there
	return there, nil
}

func (w *writer) replacing(err error) {
	if w.opt.Replacing != nil {
		w.opt.Replacing(err)
	}
}

// send sends layers, records and manifest, but does not name them. What there is
// says which layers need not be asked for.
func (w *writer) send(ctx context.Context, all, there *Cache) (ocispec.Descriptor, error) {
	docs := documents{Blobs: w.src, data: map[digest.Digest][]byte{}, own: w.own}
	root, err := docs.add(ctx, all, w.opt.DockerTypes)
	if err != nil {
		return root, err
	}
	held := maps.Clone(there.held)
	for _, d := range there.bundles() {
		held[d.Digest] = d
	}
	dst := present{w.dst, held, docs.data}
	return root, exporter.Copy(ctx, dst, docs, root, exporter.CopyOptions{Progress: w.opt.Progress})
}

// present is a repository that is known to have some layers, since a manifest
// there refers to them, and not to have what was only just made up.
type present struct {
	cache.Repository
	held  map[digest.Digest]ocispec.Descriptor
	fresh map[digest.Digest][]byte
}

func (p present) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if there, ok := p.held[d.Digest]; ok && there.Size == d.Size {
		return true, nil
	}
	if _, ok := p.fresh[d.Digest]; ok {
		return false, nil
	}
	return p.Repository.Has(ctx, d)
}

func (p present) Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error) {
	if m, ok := p.Repository.(exporter.Mounter); ok {
		return m.Mount(ctx, d, from)
	}
	return false, nil
}

// documents are blobs and, before them, a few that are in memory or in bundles.
type documents struct {
	cache.Blobs
	data map[digest.Digest][]byte
	own  *Cache // has bundles of cache mounts
}

func (m documents) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if data, ok := m.data[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	if b := m.own.bundleWith(d); b != nil {
		return b.Open(d)
	}
	return m.Blobs.Open(ctx, d)
}

func (m documents) Origins(d digest.Digest) []string {
	if o, ok := m.Blobs.(exporter.Originator); ok {
		return o.Origins(d)
	}
	return nil
}

// writeAnnotation makes every write another manifest.
const writeAnnotation = "vnd.lamina.cache.write"

// add adds what is loose of c in a bundle, the records and the manifest, and returns
// the last.
func (m documents) add(ctx context.Context, c *Cache, docker bool) (ocispec.Descriptor, error) {
	if bundle := c.bundle(ctx, m.Blobs); len(bundle) > 0 {
		m.put(BundleType, bundle)
	}
	records, err := encode(c.document())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	doc := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       m.put(ConfigType, records),
		Layers:       slices.Concat(c.layers(), c.mountLayers(), c.bundles()),
		Annotations:  map[string]string{writeAnnotation: rand.Text()},
	}
	if docker {
		doc.MediaType, doc.ArtifactType = exporter.DockerManifest, ""
		for i, d := range doc.Layers {
			doc.Layers[i].MediaType = exporter.DockerLayerType(d.MediaType)
		}
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode cache: %w", err)
	}
	return m.put(doc.MediaType, data), nil
}

func (m documents) put(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	m.data[d.Digest] = data
	return d
}

// jitter is a random time of that length on average.
func jitter(d time.Duration) time.Duration {
	return d/2 + mathrand.N(d+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
