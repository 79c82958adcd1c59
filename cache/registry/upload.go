package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// smallBlob is what is kept in memory, so that it can be sent again whatever
	// reader it came from.
	smallBlob = 1 << 20

	// A proxy before a registry may refuse large requests. Chunks begin with the
	// largest size here and are made smaller until they pass.
	largestChunk  = 64 << 20
	smallestChunk = 1 << 20
)

// upload sends a blob in one piece, because every registry takes that
// (distribution-spec, "POST then PUT"); in chunks only if it is too large. What
// breaks is begun anew: registries do not keep what arrived of a broken request.
//
//	POST  /v2/app/blobs/uploads/           202  Location: where
//	PUT   where?digest=sha256:…            201
//
//	POST  /v2/app/blobs/uploads/           202  Location: where
//	PATCH where    Content-Range: 0-99     202  Location: where next
//	PATCH next     Content-Range: 100-149  202  Location: where last
//	PUT   last?digest=sha256:…             201
func (r *Repository) upload(ctx context.Context, d ocispec.Descriptor, from io.Reader) error {
	c, err := r.callFor(http.MethodPut, d)
	if err != nil {
		return err
	}
	if _, ok := from.(io.Seeker); !ok && d.Size <= smallBlob {
		data, err := io.ReadAll(io.LimitReader(from, smallBlob+1))
		if err != nil {
			return fmt.Errorf("%s: %w", c.subject, err)
		}
		from = bytes.NewReader(data)
	}
	var progress func(int64)
	if r.progress != nil {
		progress = func(done int64) { r.progress(d, done) }
	}
	u := &push{repo: r, d: d, subject: c.subject, src: newSource(from, d.Size, progress)}
	defer u.src.end()
	for try := 1; ; try++ {
		err := u.send(ctx)
		if err == nil {
			return nil
		}
		var e *Error
		if !errors.As(err, &e) || !u.src.rewindable() {
			return err
		}
		if e.status == http.StatusRequestEntityTooLarge && u.shrink() {
			try--
			continue
		}
		if err := r.host.client.policy.pause(ctx, try, err); err != nil {
			return err
		}
		// Or only its answer got lost.
		if ok, err := r.Has(ctx, d); err == nil && ok {
			return nil
		}
	}
}

// push is a blob on its way up.
type push struct {
	repo    *Repository
	d       ocispec.Descriptor
	subject string
	src     *source
	chunk   int64 // size of the pieces; 0 is one piece
}

// shrink makes the pieces smaller, if they are not yet as small as sensible.
func (u *push) shrink() bool {
	next := int64(largestChunk)
	if u.chunk > 0 {
		next = u.chunk / 4
	}
	for next >= u.d.Size && next > smallestChunk {
		next /= 4
	}
	if next < smallestChunk || next >= u.d.Size {
		return false
	}
	u.chunk = next
	return true
}

func (u *push) send(ctx context.Context) error {
	where, smallest, err := u.repo.session(ctx, u.d, u.subject)
	if err != nil {
		return err
	}
	if u.chunk > 0 {
		return u.sendChunks(ctx, where, max(u.chunk, smallest))
	}
	return u.finish(ctx, where, u.src)
}

// finish ends the upload at where with what is left of the body.
func (u *push) finish(ctx context.Context, where *url.URL, body *source) error {
	at := *where
	if at.RawQuery != "" { // appended as it is, because it may be signed
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + url.QueryEscape(u.d.Digest.String())
	resp, err := u.do(ctx, http.MethodPut, &at, body, "", http.StatusCreated)
	if err != nil {
		return err
	}
	discard(resp.Body)
	return nil
}

func (u *push) sendChunks(ctx context.Context, where *url.URL, size int64) error {
	pass, err := u.src.begin(nil)
	if err != nil {
		return err
	}
	for at := int64(0); at < u.d.Size; at += size {
		n := min(size, u.d.Size-at)
		span := fmt.Sprintf("%d-%d", at, at+n-1)
		body := newSource(io.LimitReader(pass, n), n, nil)
		resp, err := u.do(ctx, http.MethodPatch, where, body, span, http.StatusAccepted, http.StatusNoContent)
		body.end()
		if failure := u.src.failure(); failure != nil {
			err = fmt.Errorf("%s: %w", u.subject, failure)
		}
		if err != nil {
			return err
		}
		discard(resp.Body)
		if where, err = u.repo.location(resp); err != nil {
			return err
		}
	}
	return u.finish(ctx, where, newBytes(nil))
}

// do sends one request of an upload, once: what has been sent cannot be told
// from outside, so only the whole upload can be tried again.
func (u *push) do(ctx context.Context, method string, at *url.URL, body *source, span string, want ...int) (*http.Response, error) {
	c := u.repo.call(method, "")
	c.url, c.subject, c.body, c.once = at, u.subject, body, true
	c.header = http.Header{"Content-Type": {"application/octet-stream"}}
	if span != "" {
		c.header.Set("Content-Range", span)
	}
	resp, err := u.repo.host.do(ctx, c, want...)
	if e := (*Error)(nil); errors.As(err, &e) {
		// The registry may have lost or closed the upload behind our back.
		e.transient = e.transient || e.says("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID") ||
			e.status == http.StatusNotFound || e.status == http.StatusRequestedRangeNotSatisfiable
	}
	return resp, err
}

// session returns where to upload a blob to, and the smallest chunk allowed.
func (r *Repository) session(ctx context.Context, d ocispec.Descriptor, subject string) (*url.URL, int64, error) {
	r.mu.Lock()
	opened := r.sessions[d.Digest]
	delete(r.sessions, d.Digest)
	r.mu.Unlock()
	if opened != nil {
		return opened, 0, nil
	}
	c := r.call(http.MethodPost, "blobs/uploads/")
	c.subject = subject
	resp, err := r.host.do(ctx, c, http.StatusAccepted)
	if err != nil {
		return nil, 0, err
	}
	discard(resp.Body)
	smallest, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	if err != nil {
		smallest = 0
	}
	where, err := r.location(resp)
	return where, smallest, err
}

// mount asks for a blob of another repository (distribution-spec, "Mounting a
// blob from another repository").
func (r *Repository) mount(ctx context.Context, d ocispec.Descriptor, from Name) (bool, error) {
	r.wantWrites()
	about, err := r.callFor(http.MethodPost, d)
	if err != nil {
		return false, err
	}
	c := r.call(http.MethodPost, "blobs/uploads/")
	c.subject = about.subject
	c.query = url.Values{"mount": {d.Digest.String()}, "from": {from.Repository}}
	c.scopes = append(c.scopes, "repository:"+from.Repository+":pull")
	resp, err := r.host.do(ctx, c, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return false, err
	}
	discard(resp.Body)
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	// It would not, and opened an upload instead, which Put will use.
	if where, err := r.location(resp); err == nil {
		r.mu.Lock()
		r.sessions[d.Digest] = where
		r.mu.Unlock()
	}
	return false, nil
}

// location is where the registry says to go on. Behind a proxy that ends TLS,
// registries may think that they speak plain HTTP.
func (r *Repository) location(resp *http.Response) (*url.URL, error) {
	u, err := resp.Location()
	if err != nil {
		return nil, &Error{
			Kind: Server, Registry: r.name.Registry, Subject: r.name.Origin(), Err: err,
			Text: fmt.Sprintf("%s does not say where to upload to", r.name.Registry),
		}
	}
	if u.Scheme == "http" && resp.Request.URL.Scheme == "https" {
		u.Scheme = "https"
	}
	return u, nil
}
