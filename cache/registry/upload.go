package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallBlob is what is kept in memory, so that it can be sent again whatever
// reader it came from.
const smallBlob = 1 << 20

// upload sends a blob, of which the registry is thought not to have it. What breaks is
// begun anew: registries do not keep what arrived of a broken request.
//
//	POST …/blobs/uploads/         202  Location: where
//	PUT where?digest=sha256:…     201
//
// (distribution-spec, "POST then PUT").
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
	again := false
	return r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		u := uploading{host: r.host, client: &http.Client{Transport: t}}
		if again { // perhaps only the answer was lost
			if l, err := remote.Layer(r.lib.Digest(d.Digest.String()), options(ctx, t)...); err == nil {
				if _, err := l.Size(); err == nil {
					return nil
				}
			}
		}
		again = true
		where, _, err := u.open(ctx, r.lib, nil)
		if err != nil {
			return err
		}
		return u.send(ctx, where, d, o.src)
	})
}

// mount asks for a blob of another repository. If the registry does not have it
// there, it opens an upload instead, which is closed again.
func (r *Repository) mount(ctx context.Context, d ocispec.Descriptor, from name.Repository) (mounted bool, err error) {
	o := r.opFor(d)
	o.scopes = append(o.scopes, from.Scope(transport.PullScope))
	err = r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		u := uploading{host: r.host, client: &http.Client{Transport: t}}
		where, done, err := u.open(ctx, r.lib, url.Values{"mount": {d.Digest.String()}, "from": {from.RepositoryStr()}})
		if err == nil && !done {
			r.abandon(ctx, t, where)
		}
		mounted = done
		return err
	})
	return mounted, err
}

// uploading makes the requests of one upload.
type uploading struct {
	host   *host
	client *http.Client
}

// open opens an upload and returns where it goes, unless what query asks for is
// done with that.
func (u uploading) open(ctx context.Context, repo name.Repository, query url.Values) (where *url.URL, done bool, err error) {
	begin := url.URL{
		Scheme: u.host.scheme(), Host: repo.RegistryStr(),
		Path: "/v2/" + repo.RepositoryStr() + "/blobs/uploads/", RawQuery: query.Encode(),
	}
	resp, err := u.request(ctx, http.MethodPost, &begin, http.NoBody, 0)
	if err != nil {
		return nil, false, err
	}
	defer discard(resp.Body)
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusAccepted); err != nil {
		return nil, false, err
	}
	if resp.StatusCode == http.StatusCreated && query != nil {
		return nil, true, nil
	}
	where, err = u.next(resp)
	return where, false, err
}

// send sends a blob to an open upload: in one request or, where that is too large
// for the registry, in pieces.
func (u uploading) send(ctx context.Context, where *url.URL, d ocispec.Descriptor, src *source) error {
	if piece := u.host.piece.Load(); piece == 0 || d.Size <= piece {
		resp, err := u.sendBody(ctx, http.MethodPut, final(where, d), d, src)
		if err != nil {
			return err
		}
		defer discard(resp.Body)
		if resp.StatusCode != http.StatusRequestEntityTooLarge || !u.host.piece.shrink(0, d.Size) {
			return transport.CheckError(resp, http.StatusCreated)
		}
	}
	resp, err := u.sendBody(ctx, http.MethodPatch, where, d, src)
	if err != nil {
		return err
	}
	defer discard(resp.Body)
	if err := transport.CheckError(resp, http.StatusNoContent, http.StatusAccepted, http.StatusCreated); err != nil {
		return err
	}
	if where, err = u.next(resp); err != nil {
		return err
	}
	end, err := u.request(ctx, http.MethodPut, final(where, d), http.NoBody, 0)
	if err != nil {
		return err
	}
	defer discard(end.Body)
	return transport.CheckError(end, http.StatusCreated)
}

// sendBody sends the content of src, from its beginning.
func (u uploading) sendBody(ctx context.Context, method string, where *url.URL, d ocispec.Descriptor, src *source) (*http.Response, error) {
	body, err := src.begin()
	if err != nil {
		return nil, err
	}
	return u.request(ctx, method, where, body, d.Size)
}

func (u uploading) request(ctx context.Context, method string, where *url.URL, body io.ReadCloser, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, where.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if pass, ok := body.(*sourcePass); ok {
		req.GetBody = pass.s.begin
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	return u.client.Do(req)
}

// final is where an upload ends that consists of d.
func final(where *url.URL, d ocispec.Descriptor) *url.URL {
	end := *where
	query := end.Query()
	query.Set("digest", d.Digest.String())
	end.RawQuery = query.Encode()
	return &end
}

// next is where the upload goes on. A registry may send us to its storage, but not
// to an address that only we can reach, nor out of TLS.
func (u uploading) next(resp *http.Response) (*url.URL, error) {
	where, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("it does not say where to send the blob: %w", err)
	}
	at := resp.Request.URL
	if where.Hostname() == at.Hostname() {
		return where, nil
	}
	if isInternal(where) || at.Scheme == "https" && where.Scheme != "https" && !u.host.insecure {
		return nil, &Error{
			Kind: Server, Registry: u.host.registry,
			Text: fmt.Sprintf("%s wants blobs sent to %s, which is not to be trusted", u.host.registry, printable(where.Scheme+"://"+where.Host)),
		}
	}
	return where, nil
}

// isInternal tells literal addresses that are not of the internet.
func isInternal(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
}

// abandon closes an upload, as far as the registry lets it.
func (r *Repository) abandon(ctx context.Context, t http.RoundTripper, opened *url.URL) {
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
