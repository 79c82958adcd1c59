package travel

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/exporter"
)

// send sends layers and records, and the manifest too if that cannot be sent together with a
// tag. What there is says which layers need not be asked for.
func (w *writer) send(ctx context.Context, all, there *Cache) (root ocispec.Descriptor, manifest []byte, err error) {
	docs := documents{Blobs: w.src, data: map[digest.Digest][]byte{}, own: w.own}
	if root, err = docs.add(ctx, all, w.opt.DockerTypes); err != nil {
		return root, nil, err
	}
	dst := present{w.dst, map[digest.Digest]bool{}, docs.data}
	for d := range there.held {
		dst.held[d] = true
	}
	for _, d := range there.bundles() {
		dst.held[d.Digest] = true
	}
	maps.Copy(dst.held, w.sent)
	_, dst.held[root.Digest] = w.dst.(exporter.Namer)
	if err := exporter.Copy(ctx, dst, docs, root, exporter.CopyOptions{Progress: w.opt.Progress}); err != nil {
		return root, nil, err
	}
	for _, d := range append(all.layers(), all.bundles()...) {
		w.sent[d.Digest] = true
	}
	return root, docs.data[root.Digest], nil
}

// present is a repository that is known to have some layers, since a manifest
// there refers to them, and not to have what was only just made up.
type present struct {
	cache.Repository
	held  map[digest.Digest]bool
	fresh map[digest.Digest][]byte
}

func (p present) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if p.held[d.Digest] {
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
	for _, bundle := range c.bundle(ctx, m.Blobs) {
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
