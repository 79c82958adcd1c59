package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallBlob is what is kept in memory, so that it can be sent again whatever
// reader it came from.
const smallBlob = 1 << 20

// upload sends a blob, unless the registry has it. What breaks is begun anew:
// registries do not keep what arrived of a broken request.
func (r *Repository) upload(ctx context.Context, d ocispec.Descriptor, from io.Reader) error {
	o := r.opFor(d)
	if _, ok := from.(io.Seeker); !ok && d.Size <= smallBlob {
		data, err := io.ReadAll(io.LimitReader(from, smallBlob+1))
		if err != nil {
			return fmt.Errorf("%s: %w", o.subject, err)
		}
		from = bytes.NewReader(data)
	}
	var progress func(int64)
	if r.progress != nil {
		progress = func(done int64) { r.progress(d, done) }
	}
	o.src = newSource(from, d.Size, progress)
	defer o.src.end()
	err := r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		return remote.WriteLayer(r.lib, layer{d, o.src.begin}, options(ctx, t)...)
	})
	if err == nil && progress != nil {
		progress(d.Size) // the registry may have had it
	}
	return err
}

// errNotMounted ends an upload that was meant to be a mount.
var errNotMounted = errors.New("the blob was not mounted")

// mount asks for a blob of another repository. If the registry does not have it
// there, it opens an upload instead, which is closed again: the library has no
// way to use it later.
func (r *Repository) mount(ctx context.Context, d ocispec.Descriptor, from name.Repository) (bool, error) {
	o := r.opFor(d)
	o.scopes = append(o.scopes, from.Scope(transport.PullScope))
	mounted := false
	unsent := layer{d, func() (io.ReadCloser, error) { return nil, errNotMounted }}
	err := r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		l := &remote.MountableLayer{Layer: unsent, Reference: from.Digest(d.Digest.String())}
		err := remote.WriteLayer(r.lib, l, options(ctx, t)...)
		if errors.Is(err, errNotMounted) {
			r.abandon(ctx, t, attemptOf(ctx).opened.Load())
			return nil
		}
		mounted = err == nil
		return err
	})
	return mounted, err
}

// abandon closes an upload, as far as the registry lets it.
func (r *Repository) abandon(ctx context.Context, t http.RoundTripper, opened *url.URL) {
	if opened == nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, opened.String(), nil)
	if err != nil {
		return
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return
	}
	discard(resp.Body)
}

// layer is a blob as the library knows it.
type layer struct {
	d    ocispec.Descriptor
	open func() (io.ReadCloser, error)
}

var _ v1.Layer = layer{}

func (l layer) Digest() (v1.Hash, error)             { return v1.NewHash(l.d.Digest.String()) }
func (l layer) DiffID() (v1.Hash, error)             { return v1.Hash{}, errors.ErrUnsupported }
func (l layer) Compressed() (io.ReadCloser, error)   { return l.open() }
func (l layer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
func (l layer) Size() (int64, error)                 { return l.d.Size, nil }
func (l layer) MediaType() (types.MediaType, error)  { return types.MediaType(l.d.MediaType), nil }

// options tell the library to use t for one operation, to try nothing again, and
// to leave out no blob.
func options(ctx context.Context, t http.RoundTripper) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(t),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryPredicate(func(error) bool { return false }),
		remote.WithNondistributable,
	}
}
