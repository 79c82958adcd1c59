package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// maxDocument bounds the manifests, indexes and configurations that are read
// into memory, in bytes. Registries refuse manifests above 4 MiB.
const maxDocument = 16 << 20

// errSchema1 reports an image in the format that preceded content addressing.
var errSchema1 = errors.New("the image is in Docker's schema 1, which is no longer supported: push it again with a current tool, which converts it")

// document is a manifest or an index. They are read as one type so that bytes
// that claim to be both are noticed: two readers could see two images in them.
type document struct {
	MediaType   string               `json:"mediaType"`
	Config      *ocispec.Descriptor  `json:"config"`
	Layers      []ocispec.Descriptor `json:"layers"`
	Manifests   []ocispec.Descriptor `json:"manifests"`
	Annotations map[string]string    `json:"annotations"`
	FSLayers    json.RawMessage      `json:"fsLayers"` // of schema 1
}

// parseDocument reads the manifest or index that d describes.
func parseDocument(d ocispec.Descriptor, data []byte) (document, error) {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return doc, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	switch {
	case len(doc.FSLayers) > 0:
		return doc, fmt.Errorf("read manifest %s: %w", d.Digest, errSchema1)
	case IsIndex(d.MediaType) && (doc.Config != nil || doc.Layers != nil || IsManifest(doc.MediaType)):
		return doc, fmt.Errorf("read index %s: it is an image manifest", d.Digest)
	case IsManifest(d.MediaType) && (doc.Manifests != nil || IsIndex(doc.MediaType)):
		return doc, fmt.Errorf("read manifest %s: it is an index", d.Digest)
	case IsManifest(d.MediaType) && doc.Config == nil:
		return doc, fmt.Errorf("read manifest %s: it has no config", d.Digest)
	}
	return doc, nil
}

// children are the blobs that the document refers to.
func (doc document) children() []ocispec.Descriptor {
	if doc.Config == nil {
		return doc.Manifests
	}
	return append([]ocispec.Descriptor{*doc.Config}, doc.Layers...)
}

// readBlob reads a small blob whole, verified.
func readBlob(ctx context.Context, b cache.Blobs, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, fmt.Errorf("read %s: %d bytes are too many for %s", d.Digest, d.Size, d.MediaType)
	}
	data, err := readOnce(ctx, b, d)
	var damaged *cache.CorruptError
	if errors.As(err, &damaged) { // a store has removed it, and perhaps gets it from elsewhere
		if again, err := readOnce(ctx, b, d); err == nil {
			return again, nil
		}
	}
	return data, err
}

func readOnce(ctx context.Context, b cache.Blobs, d ocispec.Descriptor) ([]byte, error) {
	r, err := b.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	return data, nil
}

func readDocument(ctx context.Context, b cache.Blobs, d ocispec.Descriptor) (document, error) {
	if isSchema1(d.MediaType) {
		return document{}, fmt.Errorf("read manifest %s: %w", d.Digest, errSchema1)
	}
	data, err := readBlob(ctx, b, d)
	if err != nil {
		return document{}, err
	}
	return parseDocument(d, data)
}

// Children returns the blobs that d refers to: the manifests of an index, the
// config and the layers of a manifest, in that order. Anything else has none.
func Children(ctx context.Context, b cache.Blobs, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !IsManifest(d.MediaType) && !IsIndex(d.MediaType) && !isSchema1(d.MediaType) {
		return nil, nil
	}
	doc, err := readDocument(ctx, b, d)
	if err != nil {
		return nil, err
	}
	return doc.children(), nil
}

// Walk calls fn for root and everything it refers to, each digest once, a
// document before its children. It reads the documents only, and stops at the
// first error.
func Walk(ctx context.Context, b cache.Blobs, root ocispec.Descriptor, fn func(ocispec.Descriptor) error) error {
	seen := map[digest.Digest]bool{}
	var visit func(d ocispec.Descriptor) error
	visit = func(d ocispec.Descriptor) error {
		if seen[d.Digest] {
			return nil
		}
		seen[d.Digest] = true
		if err := fn(d); err != nil {
			return err
		}
		children, err := Children(ctx, b, d)
		if err != nil {
			return err
		}
		for _, child := range children {
			if err := visit(child); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(root)
}
