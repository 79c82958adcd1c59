package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// maxManifest is the largest manifest that is handled. Registries need not take
// more than 4 MiB (distribution-spec, "Pushing Manifests").
const maxManifest = 8 << 20

// isManifest tells what registries keep among the manifests.
func isManifest(mediaType string) bool {
	t := types.MediaType(mediaType)
	return t.IsIndex() || t.IsImage()
}

// readManifest reads and verifies all of a manifest.
func readManifest(r io.Reader, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxManifest {
		return nil, fmt.Errorf("a manifest of %d bytes is too large", d.Size)
	}
	return io.ReadAll(cache.Verify(io.NopCloser(r), d))
}

// document is a manifest as the library sends it.
type document struct {
	d    ocispec.Descriptor
	data []byte
}

func (m document) RawManifest() ([]byte, error)        { return m.data, nil }
func (m document) MediaType() (types.MediaType, error) { return types.MediaType(m.d.MediaType), nil }

func (r *Repository) putManifest(ctx context.Context, o *op, ref name.Reference, d ocispec.Descriptor, data []byte) error {
	err := r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		return remote.Put(ref, document{d, data}, options(ctx, t)...)
	})
	if err != nil {
		return err
	}
	r.remember(d.Digest, data)
	return nil
}

// resolve asks for the headers of a manifest, and reads it if they do not say
// enough or the registry knows no HEAD.
func (r *Repository) resolve(ctx context.Context, o *op, ref name.Reference) (ocispec.Descriptor, error) {
	var found ocispec.Descriptor
	err := r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		d, err := remote.Head(ref, options(ctx, t)...)
		if err == nil {
			found = describe(d)
		}
		return err
	})
	if e := (*Error)(nil); errors.As(err, &e) && e.Kind == Server && e.status < 500 {
		return r.read(ctx, o, ref)
	}
	if err == nil && (!isManifest(found.MediaType) || found.Size == 0) {
		return r.read(ctx, o, ref)
	}
	return found, err
}

func describe(d *v1.Descriptor) ocispec.Descriptor {
	bare, _, err := mime.ParseMediaType(string(d.MediaType)) // there may be parameters
	if err != nil {
		bare = ""
	}
	return ocispec.Descriptor{MediaType: bare, Digest: digest.Digest(d.Digest.String()), Size: d.Size}
}

// read resolves a reference by reading what it stands for.
func (r *Repository) read(ctx context.Context, o *op, ref name.Reference) (ocispec.Descriptor, error) {
	var got *remote.Descriptor
	err := r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		var err error
		got, err = remote.Get(ref, options(ctx, t)...)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := describe(&got.Descriptor)
	if !isManifest(d.MediaType) {
		d.MediaType = sniff(got.Manifest)
	}
	if d.MediaType == "" {
		return ocispec.Descriptor{}, &Error{
			Kind: Server, Registry: r.name.Registry, Subject: o.subject,
			Text: fmt.Sprintf("%s has no image under this name, but %q", r.name.Registry, printable(string(got.MediaType))),
		}
	}
	r.remember(d.Digest, got.Manifest)
	return d, nil
}

// sniff finds the media type of a manifest that came without one.
func sniff(data []byte) string {
	var m struct {
		MediaType string          `json:"mediaType"`
		Version   int             `json:"schemaVersion"`
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
	}
	if json.Unmarshal(data, &m) != nil || m.Version != 2 {
		return ""
	}
	switch {
	case isManifest(m.MediaType):
		return m.MediaType
	case m.MediaType != "":
		return ""
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Layers != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}
