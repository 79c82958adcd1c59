package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// freshStart is how many bytes must arrive over a connection before its breaking
// counts as a first failure again.
const freshStart = 1 << 20

// download begins to read what o is about. The library's own reading of blobs
// begins at the beginning only, so this makes the requests itself, over the
// library's transport.
func (r *Repository) download(ctx context.Context, o *op, d ocispec.Descriptor) (io.ReadCloser, error) {
	p := &pull{repo: r, o: o, want: d, done: ctx.Err}
	p.fetch = func(from int64) (io.ReadCloser, error) { return p.get(ctx, from) }
	p.pause = func(try int, err error) error { return r.host.client.policy.pause(ctx, try, err) }
	body, err := p.fetch(0)
	if err != nil {
		return nil, err
	}
	p.body = body
	return &blob{pull: p, verified: cache.Verify(p, d)}, nil
}

// blob is what Open returns: the content of a pull, verified.
type blob struct {
	pull     *pull
	verified io.ReadCloser
}

func (b *blob) Read(p []byte) (int, error) {
	n, err := b.verified.Read(p)
	return n, b.pull.repo.corrupt(b.pull.o.subject, err)
}

// Seek goes back to the beginning, so that an upload that broke can start again.
func (b *blob) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent && offset == 0 {
		return b.pull.n, nil
	}
	if whence != io.SeekStart || offset != 0 {
		return 0, fmt.Errorf("seek in %s: %w", b.pull.o.subject, errors.ErrUnsupported)
	}
	b.pull.drop()
	b.pull.n = 0
	b.verified = cache.Verify(b.pull, b.pull.want)
	return 0, nil
}

func (b *blob) Close() error { return b.verified.Close() }

// corrupt puts the registry into the error of content that is not what it should
// be, and passes other errors.
func (r *Repository) corrupt(subject string, err error) error {
	var bad *cache.CorruptError
	if known := (*Error)(nil); !errors.As(err, &bad) || errors.As(err, &known) {
		return err
	}
	return damaged(r.name.Registry, subject, bad)
}

// pull reads content to its end, over as many connections as it takes.
type pull struct {
	repo *Repository
	o    *op
	want ocispec.Descriptor

	// These hold the context of whoever opened the blob.
	fetch func(from int64) (io.ReadCloser, error)
	pause func(try int, err error) error
	done  func() error

	body   io.ReadCloser // nil between two connections
	n      int64         // bytes delivered
	mark   int64         // n when the connection began
	broken int           // connections in a row that broke early
}

func (p *pull) Read(buf []byte) (int, error) {
	for {
		if p.body == nil {
			body, err := p.fetch(p.n)
			if err != nil {
				return 0, err
			}
			p.body, p.mark = body, p.n
		}
		n, err := p.body.Read(buf)
		p.n += int64(n)
		if n > 0 && p.repo.progress != nil {
			p.repo.progress(p.want, p.n)
		}
		if n > 0 || err == nil {
			return n, nil // an error comes again
		}
		if p.n >= p.want.Size {
			return 0, io.EOF
		}
		if err := p.mend(err); err != nil {
			return 0, err
		}
	}
}

// mend prepares for another connection after one that broke with err.
func (p *pull) mend(err error) error {
	p.drop()
	if done := p.done(); done != nil {
		return fmt.Errorf("%s: %w", p.o.subject, done)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	} else if e := (*Error)(nil); errors.As(err, &e) {
		err = e.Err // which counts the bytes of one connection only
	}
	if p.n-p.mark >= freshStart {
		p.broken = 0
	}
	p.broken++
	p.repo.host.client.opt.Log.Debug("download broke", "what", p.o.subject, "at", p.n, "error", err)
	return p.pause(p.broken, broken(p.repo.name.Registry, p.o.subject, p.n, p.want.Size, err))
}

func (p *pull) drop() {
	if p.body != nil {
		p.body.Close()
		p.body = nil
	}
}

// get requests the content from an offset on (distribution-spec, "Pulling blobs";
// RFC 9110, section 14).
func (p *pull) get(ctx context.Context, from int64) (io.ReadCloser, error) {
	u := url.URL{Scheme: p.repo.lib.Scheme(), Host: p.repo.lib.RegistryStr()}
	kind := "blobs"
	if isManifest(p.want.MediaType) {
		kind = "manifests"
	}
	req, err := http.NewRequest(http.MethodGet, u.JoinPath("v2", p.repo.lib.RepositoryStr(), kind, p.want.Digest.String()).String(), nil)
	if err != nil {
		return nil, err
	}
	if kind == "manifests" {
		req.Header.Set("Accept", p.want.MediaType)
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, p.want.Size-1))
	}
	var resp *http.Response
	err = p.repo.host.try(ctx, p.o, func(ctx context.Context, t http.RoundTripper) error {
		var err error
		if resp, err = (&http.Client{Transport: t}).Do(req.Clone(ctx)); err != nil {
			return err
		}
		err = transport.CheckError(resp, http.StatusOK, http.StatusPartialContent)
		if err != nil {
			resp.Body.Close()
		}
		return err
	})
	if e := (*Error)(nil); errors.As(err, &e) && e.status == http.StatusRequestedRangeNotSatisfiable {
		return nil, damaged(p.repo.name.Registry, p.o.subject, &cache.CorruptError{Want: p.want, Size: from})
	}
	if err != nil {
		return nil, err
	}
	if err := p.position(resp, from); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// position makes sure that the answer's body goes on at an offset of the content.
func (p *pull) position(resp *http.Response, from int64) error {
	if resp.StatusCode == http.StatusPartialContent {
		var first int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != from {
			return &Error{
				Kind: Server, Registry: p.repo.name.Registry, Subject: p.o.subject,
				Text: fmt.Sprintf("%s answered with another range than asked for, %q", p.repo.name.Registry, printable(resp.Header.Get("Content-Range"))),
			}
		}
		return nil
	}
	if size := resp.ContentLength; size >= 0 && size != p.want.Size {
		return damaged(p.repo.name.Registry, p.o.subject, &cache.CorruptError{Want: p.want, Size: size})
	}
	// A registry may know no ranges, and begin at the beginning. If this breaks,
	// reading does so too.
	io.CopyN(io.Discard, resp.Body, from)
	return nil
}

func (p *pull) Close() error {
	p.drop()
	return nil
}
