package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// host speaks HTTP to one registry: it finds the scheme, proves who asks, tries
// again, and turns failures into errors.
type host struct {
	client   *Client
	registry string // as names write it
	address  string // as the network knows it
	insecure bool
	http     func() (*http.Client, error) // made when first used
	auth     *auth

	plain  atomic.Bool // plain HTTP, instead of HTTPS
	mu     sync.Mutex
	probed bool // plain is known to be right
}

func newHost(c *Client, registry string) *host {
	h := &host{client: c, registry: registry, address: registry}
	if registry == dockerHub {
		h.address = hubHost
	}
	h.insecure = slices.Contains(c.opt.Insecure, registry)
	h.http = sync.OnceValues(h.newClient)
	h.auth = newAuth(h)
	return h
}

// call is one operation, which may take several requests.
type call struct {
	method string
	path   string // at the registry, such as "/v2/app/manifests/1"
	query  url.Values
	url    *url.URL // instead of path and query, where the registry said to go
	header http.Header
	body   *source // nil for none

	subject    string // what the call is about, for errors
	repository string
	scopes     []string
	login      *credential // whose call it is, if auth does not know
	open       bool        // needs no Authorization header from auth
	once       bool        // is not tried again here
}

// do performs c until the answer has one of the wanted statuses, trying again
// where that can help. The caller must close the answer's body.
func (h *host) do(ctx context.Context, c *call, want ...int) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := h.attempt(ctx, c)
		if err == nil {
			if slices.Contains(want, resp.StatusCode) {
				return resp, nil
			}
			err = refusal(h.registry, c.subject, h.loginOf(c), resp)
		}
		err = h.failure(ctx, c, err)
		if c.once || c.body != nil && !c.body.rewindable() {
			return nil, err
		}
		if err := h.client.policy.pause(ctx, try, err); err != nil {
			return nil, settled(err)
		}
		h.client.opt.Log.Debug("registry request is tried again", "try", try+1, "error", err)
	}
}

// attempt sends c, and sends it again if the registry then says how it wants to
// be told who asks.
func (h *host) attempt(ctx context.Context, c *call) (*http.Response, error) {
	if c.open {
		return h.send(ctx, c, c.header.Get("Authorization"))
	}
	proof, err := h.auth.header(ctx, c)
	if err != nil {
		return nil, err
	}
	resp, err := h.send(ctx, c, proof)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if c.body != nil && !c.body.rewindable() {
		return resp, nil
	}
	again, err := h.auth.refused(ctx, c, resp, proof)
	if err == nil && again {
		sent := proof
		proof, err = h.auth.header(ctx, c)
		again = proof != sent
	}
	if err == nil && !again {
		return resp, nil
	}
	discard(resp.Body)
	if err != nil {
		return nil, err
	}
	return h.send(ctx, c, proof)
}

// send makes one request. It is given up when nothing moves for policy.stall.
func (h *host) send(ctx context.Context, c *call, proof string) (*http.Response, error) {
	client, err := h.http()
	if err != nil {
		return nil, &Error{Kind: Network, Registry: h.registry, Err: err, Text: err.Error()}
	}
	target := c.url
	if target == nil {
		target = h.base(ctx).JoinPath(c.path)
		target.RawQuery = c.query.Encode()
	}
	ctx, w := newWatch(ctx, h.client.policy)
	req, err := http.NewRequestWithContext(ctx, c.method, target.String(), nil)
	if err != nil {
		w.end()
		return nil, err
	}
	if c.header != nil {
		req.Header = c.header.Clone()
	}
	req.Header.Set("User-Agent", h.client.opt.UserAgent)
	if c.body != nil {
		if err := c.body.attach(req, w); err != nil {
			w.end()
			return nil, err
		}
	}
	req.Header.Del("Authorization")
	if proof != "" && (c.open || req.URL.Host == h.address) {
		req.Header.Set("Authorization", proof)
	}
	start := time.Now()
	resp, err := client.Do(req)
	log := h.client.opt.Log.With("method", c.method, "host", target.Host, "path", target.Path, "took", time.Since(start))
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		w.end()
		log.Debug("registry request", "error", err)
		return nil, err
	}
	log.Debug("registry request", "status", resp.StatusCode)
	w.pause()
	resp.Body = &watchedBody{body: resp.Body, cause: func() error { return context.Cause(ctx) }, w: w}
	return resp, nil
}

// failure names the reason why an attempt has failed.
func (h *host) failure(ctx context.Context, c *call, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", c.subject, context.Cause(ctx))
	}
	if c.body != nil {
		if err := c.body.failure(); err != nil {
			return fmt.Errorf("%s: %w", c.subject, err)
		}
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		if known.Subject == "" {
			known.Subject = c.subject
		}
		return known
	}
	return unreachable(h.registry, c.subject, err)
}

func (h *host) loginOf(c *call) credential {
	if c.login != nil {
		return *c.login
	}
	login, _ := h.auth.known(c.repository)
	return login
}

// base is where the registry answers. Whether it speaks plain HTTP is only asked
// of those that may.
func (h *host) base(ctx context.Context) *url.URL {
	if (h.insecure || isLoopback(h.address)) && !h.plain.Load() {
		h.probe(ctx)
	}
	u := &url.URL{Scheme: "https", Host: h.address}
	if h.plain.Load() {
		u.Scheme = "http"
	}
	return u
}

// probe tries HTTPS. If that fails for another reason than that the other side
// speaks plain HTTP, the request that comes next will say it better.
func (h *host) probe(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.probed {
		return
	}
	client, err := h.http()
	if err != nil {
		return
	}
	ctx, w := newWatch(ctx, h.client.policy)
	defer w.end()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.address+"/v2/", nil)
	if err != nil {
		return
	}
	resp, err := client.Do(req)
	if err == nil {
		discard(resp.Body)
		h.probed = true
		return
	}
	_, _, noPort := net.SplitHostPort(h.address)
	if errors.Is(err, http.ErrSchemeMismatch) || noPort != nil && isRefused(err) {
		h.plain.Store(true)
		h.probed = true
	}
}

func isLoopback(address string) bool {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		name = strings.Trim(address, "[]")
	}
	if name == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback()
}

// newClient makes the HTTP client of this registry.
func (h *host) newClient() (*http.Client, error) {
	config, err := h.client.tlsConfig(h.registry, h.insecure)
	if err != nil {
		return nil, err
	}
	// One connection for each transfer: over HTTP/2 they would share one, and its
	// window.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: 20 * time.Second,
			MaxIdleConnsPerHost: cmp.Or(h.client.opt.Jobs, 4),
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true, // digests are of the bytes as they are
			Protocols:           &protocols,
		},
		CheckRedirect: h.checkRedirect,
	}, nil
}

// checkRedirect lets the registry send us elsewhere, to its storage, but keeps
// the login out of that, and the transfer inside TLS.
func (h *host) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return &Error{Kind: Server, Registry: h.registry, Text: h.registry + " redirects without end"}
	}
	if req.URL.Scheme == "http" && via[0].URL.Scheme == "https" && !h.insecure {
		return &Error{
			Kind: Server, Registry: h.registry,
			Text: fmt.Sprintf("%s redirects from https to http, at %s", h.registry, req.URL.Host),
		}
	}
	if req.URL.Host != via[0].URL.Host {
		req.Header.Del("Authorization")
	}
	return nil
}
