package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// wire is the transport beneath the library's: it makes one request, as the
// host wants it made. It tries nothing again, because whoever knows the whole
// operation does; see [host.try].
type wire struct {
	host *host
	only string // the one scheme that may be used, while it is being found out
}

// errOtherScheme is why a request is not made.
var errOtherScheme = errors.New("the scheme is not to be used")

func (t wire) RoundTrip(in *http.Request) (*http.Response, error) {
	h := t.host
	out, w, err := t.prepare(in)
	if err != nil {
		return nil, err
	}
	inner, err := h.http()
	if err != nil {
		w.end()
		closeBody(out)
		return nil, &Error{Kind: Network, Registry: h.registry, Err: err, Text: err.Error()}
	}
	start := time.Now()
	resp, err := inner.RoundTrip(out)
	log := h.client.opt.Log.With("method", out.Method, "host", out.URL.Host, "path", out.URL.Path, "took", time.Since(start))
	if err != nil {
		if errors.Is(context.Cause(out.Context()), errStalled) {
			err = errStalled
		}
		w.end()
		log.Debug("registry request", "error", err)
		return nil, err
	}
	log.Debug("registry request", "status", resp.StatusCode)
	w.pause()
	if a := attemptOf(in.Context()); a != nil {
		a.note(resp)
	}
	resp.Body = &watchedBody{body: resp.Body, host: h, size: resp.ContentLength, ctx: out.Context(), w: w}
	return resp, nil
}

// prepare returns the request to make instead of in, and what watches over it.
func (t wire) prepare(in *http.Request) (*http.Request, *watch, error) {
	h := t.host
	ctx, w := newWatch(in.Context(), h.client.policy)
	out := in.Clone(ctx)
	out.Header.Set("User-Agent", h.client.opt.UserAgent)
	err := t.redirected(in, out)
	switch {
	case t.only != "" && in.Response == nil && in.URL.Scheme != t.only:
		err = errOtherScheme
	case t.only == "" && out.URL.Host == h.address.RegistryStr():
		// The library guesses the scheme from the registry's name, and registries
		// behind a proxy that ends TLS guess it in what they answer.
		out.URL.Scheme = h.scheme()
	}
	if err == nil && in.Body != nil && in.Body != http.NoBody {
		err = attachBody(in, out, w)
	}
	if err != nil {
		w.end()
		closeBody(in)
	}
	return out, w, err
}

// attachBody makes what in carries the body of out, under w's watch. The library
// sends the same request again after it got a new token; what it has as a body
// may have been read by then.
func attachBody(in, out *http.Request, w *watch) error {
	watched := func(body io.ReadCloser) io.ReadCloser {
		return &watchedUpload{body: body, size: in.ContentLength, left: in.ContentLength, w: w}
	}
	if in.GetBody == nil {
		out.Body = watched(in.Body)
		return nil
	}
	in.Body.Close()
	out.GetBody = func() (io.ReadCloser, error) { // net/http uses it after a connection went stale
		body, err := in.GetBody()
		if err != nil {
			return nil, err
		}
		return watched(body), nil
	}
	var err error
	out.Body, err = out.GetBody()
	return err
}

// closeBody is what a transport owes a request that it does not make.
func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// redirected lets the registry send us elsewhere, to its storage, but keeps the
// login out of that, and the transfer inside TLS.
func (t wire) redirected(in, out *http.Request) error {
	if in.Response == nil {
		return nil
	}
	first := in
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	if in.URL.Scheme == "http" && first.URL.Scheme == "https" && !t.host.insecure {
		return &Error{
			Kind: Server, Registry: t.host.registry,
			Text: fmt.Sprintf("%s redirects from https to http, at %s", t.host.registry, in.URL.Host),
		}
	}
	if isLinkLocal(in.URL) {
		return &Error{
			Kind: Server, Registry: t.host.registry,
			Text: fmt.Sprintf("%s redirects to a link-local address, %s", t.host.registry, in.URL.Host),
		}
	}
	// What is not the first one's was asked for by the place we were sent to, and
	// got by the library there.
	if in.URL.Host != first.URL.Host && in.Header.Get("Authorization") == first.Header.Get("Authorization") {
		out.Header.Del("Authorization")
	}
	return nil
}

// isLinkLocal tells addresses where clouds keep their machines' secrets.
func isLinkLocal(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.Unmap().IsLinkLocalUnicast()
}

// attempt is what an attempt at an operation learned from answers, and the
// library does not pass on.
type attempt struct {
	after    atomic.Int64 // how long the last answer asks to wait, in nanoseconds
	smallest atomic.Int64 // the smallest piece that may be sent of it
	reused   bool         // it relied on what an earlier one was told
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

func (a *attempt) note(resp *http.Response) {
	a.after.Store(int64(retryAfter(resp)))
	if resp.Request.Method == http.MethodPost && resp.StatusCode == http.StatusAccepted {
		smallest, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
		if err != nil {
			smallest = 0
		}
		a.smallest.Store(smallest)
	}
}

// retryAfter is how long the answer asks to wait: seconds or a date (RFC 9110,
// section 10.2.3), 0 if it does not.
func retryAfter(resp *http.Response) time.Duration {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
