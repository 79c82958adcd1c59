package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// host is one registry: how it is reached, and what it wants to know of us.
type host struct {
	client   *Client
	registry string        // as names write it
	address  name.Registry // as the library knows it
	insecure bool
	http     func() (*http.Transport, error) // made when first used
	plain    atomic.Bool                     // it speaks plain HTTP
	piece    pieceSize                       // what it takes at once

	lock   chan struct{} // holds an element while someone uses the fields below
	tokens map[string]token

	mu        sync.Mutex
	challenge *transport.Challenge  // how it wants to be told who asks; nil if it has not been asked
	logins    map[string]credential // by repository
}

func newHost(c *Client, registry string) *host {
	h := &host{
		client: c, registry: registry,
		lock: make(chan struct{}, 1), tokens: map[string]token{}, logins: map[string]credential{},
	}
	h.insecure = slices.Contains(c.opt.Insecure, registry)
	var opt []name.Option
	if h.mayBePlain() {
		opt = append(opt, name.Insecure)
	}
	// Docker Hub has another address than name, which the library knows. That the
	// name is one has been checked when it was parsed.
	h.address, _ = name.NewRegistry(registry, opt...)
	h.http = sync.OnceValues(h.newTransport)
	return h
}

// ping finds out, once, which scheme the registry speaks, and how it wants to be
// told who asks. The lock must be held.
//
// The library would try plain HTTP after 0.3 s, and at private addresses too; we
// try it only at registries that may speak it, and only if HTTPS cannot work.
func (h *host) ping(ctx context.Context) (*transport.Challenge, error) {
	if ch := h.pinged(); ch != nil {
		return ch, nil
	}
	ch, err := transport.Ping(ctx, h.address, wire{host: h, only: "https"})
	_, _, noPort := net.SplitHostPort(h.address.RegistryStr())
	if h.mayBePlain() && (isNoTLS(err) || noPort != nil && isRefused(err)) {
		ch, err = transport.Ping(ctx, h.address, wire{host: h, only: "http"})
	}
	if e := (*transport.Error)(nil); errors.As(err, &e) && e.StatusCode == http.StatusNotFound {
		return nil, &Error{
			Kind: Server, Registry: h.registry, Err: err,
			Text: h.registry + " is no registry: it has no /v2/",
			Hint: "check the registry's name",
		}
	}
	if err != nil {
		return nil, err
	}
	h.plain.Store(ch.Insecure)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.challenge = ch
	return ch, nil
}

// isNoTLS tells whether a server answered a request for HTTPS in plain text.
func isNoTLS(err error) bool {
	var header tls.RecordHeaderError // where the answer is not even HTTP
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &header)
}

func (h *host) pinged() *transport.Challenge {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.challenge
}

// scheme is what the registry speaks, as far as that is known.
func (h *host) scheme() string {
	if h.plain.Load() {
		return "http"
	}
	return "https"
}

func (h *host) mayBePlain() bool { return h.insecure || isLoopback(h.registry) }

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

// newTransport makes what connects to this registry.
func (h *host) newTransport() (*http.Transport, error) {
	config, err := h.client.tlsConfig(h.registry, h.insecure)
	if err != nil {
		return nil, err
	}
	// One connection for each transfer: over HTTP/2 they would share one, and its
	// window.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 20 * time.Second,
		MaxIdleConnsPerHost: cmp.Or(h.client.opt.Jobs, 4),
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // digests are of the bytes as they are
		Protocols:           &protocols,
	}, nil
}
