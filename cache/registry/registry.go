// Package registry makes a repository of a registry usable as a
// [cache.Repository], by google/go-containerregistry ("the library").
//
//	client := registry.New(registry.Options{Getenv: os.Getenv})
//	name, err := registry.ParseName("debian:12") // docker.io/library/debian:12
//	repo, err := client.Repository(name)
//	root, err := repo.Resolve(ctx, name.Reference())
//	blob, err := repo.Open(ctx, root) // verified, and resumed when the connection breaks
//
// Everything is tried again when that can help: after a broken connection, an
// answer of 429 or 5xx, a token that expired. What fails nevertheless is an
// [*Error], whose text and hint are meant for the user.
//
// The library does the talking: pings, challenges, tokens, manifests, uploads
// and mounts. From top to bottom, an operation goes through
//
//	Repository       what is asked for
//	host.try         tries all of it again
//	remote           the library's requests
//	transport        the library's proof of who asks
//	pieces, wire     one request
//	net/http
//
// These parts are ours, because the library has none, or has no way to change
// its own:
//
//   - Downloads that go on where they broke: the library begins at the beginning.
//   - Trying again: the library's waits cannot be ended and ignore Retry-After,
//     and it does not notice connections on which nothing moves.
//   - Uploads in pieces, for proxies that refuse large requests.
//   - Finding credentials and reading names: see logins and [ParseName].
//   - What keeps a login from plain HTTP at private addresses, where the library
//     would try it, and from storage that a registry redirects to at another port
//     of the same host.
//   - Errors that people can do something about.
//
// What the library does not let us change: it asks for a blob before it sends
// it, although the caller may just have done so; it reads manifests of up to 100
// MiB into memory; and it refuses private addresses of other hosts where the
// registry wants a blob to be uploaded, or a manifest to be read.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Options say how to speak to registries. The zero value is fine.
type Options struct {
	// Progress is told about the bytes of blobs in transit.
	Progress cache.Progress
	// Log gets a line about each request; nil discards them.
	Log *slog.Logger
	// Waiting, if not nil, is told why and how long is waited before something is
	// tried again. It may be called from several goroutines at once.
	Waiting func(err error, wait time.Duration)
	// Getenv looks up environment variables, which say where credentials and
	// certificates are. Nil is an empty environment. (Proxies are found by
	// net/http, in the environment of the process.)
	Getenv func(string) string
	// UserAgent is sent to registries; "lamina" if it is empty.
	UserAgent string
	// Jobs is how many transfers the caller makes at once: so many connections
	// are kept for the next request. It is not a limit. 0 means 4.
	Jobs int
	// Insecure lists registries (host, with the port if it is in names) that may
	// speak plain HTTP or show any certificate. Those on this machine's loopback
	// interface may speak plain HTTP anyway.
	Insecure []string
}

// Client speaks to any number of registries. It is safe for concurrent use.
type Client struct {
	opt    Options
	logins *logins
	policy policy

	mu    sync.Mutex
	hosts map[string]*host
}

// New returns a client. It reads and connects to nothing yet.
func New(opt Options) *Client {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Getenv == nil {
		opt.Getenv = func(string) string { return "" }
	}
	if opt.UserAgent == "" {
		opt.UserAgent = "lamina"
	}
	if opt.Jobs <= 0 {
		opt.Jobs = 4
	}
	policy := defaultPolicy()
	policy.waiting = opt.Waiting
	return &Client{
		opt:    opt,
		logins: &logins{getenv: opt.Getenv, log: opt.Log},
		policy: policy,
		hosts:  map[string]*host{},
	}
}

// Resolve returns the descriptor that an image's name stands for, without
// fetching anything. An unknown name is fs.ErrNotExist.
func (c *Client) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	n, err := ParseName(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	r, err := c.Repository(n)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.Resolve(ctx, n.Reference())
}

// Repository returns the repository that name is in.
func (c *Client) Repository(name Name) (*Repository, error) {
	if name.Registry == "" || name.Repository == "" {
		return nil, fmt.Errorf("image name %q has no repository", name)
	}
	h := c.host(name.Registry)
	return &Repository{
		name:      Name{Registry: name.Registry, Repository: name.Repository},
		lib:       h.address.Repo(name.Repository),
		host:      h,
		progress:  c.opt.Progress,
		manifests: map[digest.Digest][]byte{},
	}, nil
}

func (c *Client) host(registry string) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[registry]
	if h == nil {
		h = newHost(c, registry)
		c.hosts[registry] = h
	}
	return h
}
