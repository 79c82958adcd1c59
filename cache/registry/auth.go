package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// defaultTokenLife is how long a token is good whose server does not say
// (distribution, "Token Authentication Specification").
const defaultTokenLife = time.Minute

// token is a transport that shows a token.
type token struct {
	transport http.RoundTripper
	expires   time.Time
}

// authorized returns a transport that is allowed what o needs:
//
//	client                      registry             token server
//	  | GET /v2/                   |                      |
//	  |--------------------------->|                      |
//	  | 401 Bearer realm, service  |                      |
//	  |<---------------------------|                      |
//	  | GET realm?service&scope=repository:app:pull, with the login
//	  |-------------------------------------------------->|
//	  | token                                             |
//	  |<--------------------------------------------------|
//	  | GET /v2/app/blobs/… Authorization: Bearer token   |
//	  |--------------------------->|                      |
//
// With a Basic challenge the login goes to the registry itself. The first
// answer, the logins and the tokens are kept for all operations.
func (h *host) authorized(ctx context.Context, o *op) (http.RoundTripper, error) {
	select { // its holder may be talking to a token server
	case h.lock <- struct{}{}:
		defer func() { <-h.lock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if a := attemptOf(ctx); a != nil {
		a.reused = h.pinged() != nil
	}
	ch, err := h.ping(ctx)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(ch.Scheme, "bearer") {
		return transport.FromToken(h.address, h.login(ctx, o.repo), pieces{h}, ch, nil)
	}
	key := strings.Join(o.scopes, " ")
	if t, ok := h.tokens[key]; ok && time.Now().Before(t.expires) {
		return t.transport, nil
	}
	t, err := h.newToken(ctx, ch, h.login(ctx, o.repo), o.scopes)
	if err != nil {
		return nil, err
	}
	h.tokens[key] = t
	return t.transport, nil
}

func (h *host) newToken(ctx context.Context, ch *transport.Challenge, login credential, scopes []string) (token, error) {
	realm, err := h.realm(ch)
	if err != nil {
		return token{}, &Error{
			Kind: Server, Registry: h.registry, Err: err,
			Text: fmt.Sprintf("%s names a token server that is not to be trusted: %v", h.registry, err),
		}
	}
	tok := &transport.Token{Token: login.RegistryToken}
	if tok.Token == "" {
		// The library lets no registry but one at the same address name a token
		// server at a private address. Companies have just that, so each token server
		// counts as a registry of its own here.
		server, err := name.NewRegistry(realm.Host)
		if err == nil {
			tok, err = transport.Exchange(ctx, server, login, wire{host: h}, scopes, ch)
		}
		if err != nil {
			return token{}, h.tokenError(realm, err)
		}
	}
	life := defaultTokenLife
	if tok.ExpiresIn > 0 {
		life = time.Duration(tok.ExpiresIn) * time.Second
	}
	tok.Token = cmp.Or(tok.Token, tok.AccessToken)
	t, err := transport.FromToken(h.address, login, pieces{h}, ch, tok)
	if err != nil { // that rule again: if this token is refused, [host.try] gets another
		bearer := authn.FromConfig(authn.AuthConfig{RegistryToken: tok.Token})
		t, err = transport.FromToken(h.address, bearer, pieces{h}, &transport.Challenge{}, nil)
	}
	// Renewed a little early, because it has to arrive before it expires.
	return token{t, time.Now().Add(life * 9 / 10)}, err
}

// tokenError tells a token server's nonsense from what it may well say.
func (h *host) tokenError(realm *url.URL, err error) error {
	var (
		answer *transport.Error
		known  *Error
		failed *url.Error
	)
	if errors.As(err, &known) || errors.As(err, &answer) && answer.StatusCode != http.StatusNotFound || errors.As(err, &failed) {
		return err
	}
	return &Error{
		Kind: Server, Registry: h.registry, Err: err, transient: true,
		Text: fmt.Sprintf("the answer of %s's token server %s cannot be used: %s", h.registry, realm.Host, printable(err.Error())),
	}
}

// realm refuses token servers that a login must not be sent to: without TLS,
// unless the registry has none either, and on link-local addresses.
func (h *host) realm(ch *transport.Challenge) (*url.URL, error) {
	u, err := url.Parse(ch.Parameters["realm"])
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "https" && (u.Scheme != "http" || !ch.Insecure):
		return nil, fmt.Errorf("%q is not an https address", u)
	case isLinkLocal(u):
		return nil, fmt.Errorf("%q is a link-local address", u)
	}
	return u, nil
}

// forget makes the next operation with these scopes begin with the first
// question.
func (h *host) forget(ctx context.Context, scopes []string) {
	select {
	case h.lock <- struct{}{}:
		delete(h.tokens, strings.Join(scopes, " "))
		h.mu.Lock()
		h.challenge = nil
		h.mu.Unlock()
		<-h.lock
	case <-ctx.Done():
	}
}

// login returns the credential for a repository, and remembers it. The lock must
// be held, so that helpers are not asked twice.
func (h *host) login(ctx context.Context, repo name.Repository) credential {
	if c, ok := h.known(repo); ok {
		return c
	}
	c := h.client.logins.find(ctx, h.registry, repo.RepositoryStr())
	if ctx.Err() == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.logins[repo.RepositoryStr()] = c
	}
	return c
}

// known returns what login has found. The lock need not be held.
func (h *host) known(repo name.Repository) (credential, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.logins[repo.RepositoryStr()]
	return c, ok
}
