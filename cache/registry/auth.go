package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// defaultTokenLife is how long a token is good whose server does not say
	// (distribution, "Token Authentication Specification").
	defaultTokenLife = time.Minute
	maxToken         = 1 << 20
)

// auth proves to one registry who asks. The registry says how it wants that to
// be done when it first refuses a request, so nothing is asked of it before:
//
//	client                      registry             token server
//	  | GET /v2/app/blobs/…        |                      |
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
// With a Basic challenge the login goes to the registry itself.
type auth struct {
	host *host
	lock chan struct{} // holds an element while someone uses the challenge and the tokens

	challenge challenge
	tokens    map[string]token // by scopes, joined

	mu     sync.Mutex
	logins map[string]credential // by repository
}

type token struct {
	value   string
	expires time.Time
}

func newAuth(h *host) *auth {
	return &auth{
		host: h, lock: make(chan struct{}, 1),
		tokens: map[string]token{}, logins: map[string]credential{},
	}
}

// acquire is a lock that a context can end the wait for, since its holder may be
// talking to a token server.
func (a *auth) acquire(ctx context.Context) error {
	select {
	case a.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *auth) release() { <-a.lock }

// header returns the Authorization header for a request of c, "" as long as the
// registry has not asked for one.
func (a *auth) header(ctx context.Context, c *call) (string, error) {
	if err := a.acquire(ctx); err != nil {
		return "", err
	}
	defer a.release()
	switch a.challenge.scheme {
	case "basic":
		login := a.login(ctx, c.repository)
		if login.user == "" && login.password == "" {
			return "", nil
		}
		return basic(login), nil
	case "bearer":
		return a.bearer(ctx, c)
	}
	return "", nil
}

// refused learns from an answer of 401 to a request that was sent with the
// Authorization header sent. It tells whether another try has a chance.
func (a *auth) refused(ctx context.Context, c *call, resp *http.Response, sent string) (bool, error) {
	ch, ok := pickChallenge(resp.Header.Values("WWW-Authenticate"))
	if !ok {
		return false, nil
	}
	if err := a.acquire(ctx); err != nil {
		return false, err
	}
	defer a.release()
	if ch.scheme == "bearer" {
		if err := a.host.checkRealm(ch.realm); err != nil {
			return false, &Error{
				Kind: Server, Registry: a.host.registry, Subject: c.subject,
				Text: fmt.Sprintf("%s names a token server that is not to be trusted: %v", a.host.registry, err),
			}
		}
		if ch.scope != "" && !slices.Contains(c.scopes, ch.scope) {
			// Some token servers look at the first scope only.
			c.scopes = slices.Insert(slices.Clone(c.scopes), 0, ch.scope)
		}
		if t, ok := a.tokens[scopeKey(c)]; ok && "Bearer "+t.value == sent {
			delete(a.tokens, scopeKey(c)) // it expired, or was revoked
		}
	}
	a.challenge = ch
	return sent == "" || ch.scheme == "bearer", nil
}

// login returns the credential for a repository, and remembers it. The lock must
// be held, so that helpers are not asked twice.
func (a *auth) login(ctx context.Context, repository string) credential {
	if c, ok := a.known(repository); ok {
		return c
	}
	c := a.host.client.logins.find(ctx, a.host.registry, repository)
	if ctx.Err() == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.logins[repository] = c
	}
	return c
}

// known returns what login has found. The lock need not be held.
func (a *auth) known(repository string) (credential, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.logins[repository]
	return c, ok
}

func (a *auth) bearer(ctx context.Context, c *call) (string, error) {
	key := scopeKey(c)
	if t, ok := a.tokens[key]; ok && time.Now().Before(t.expires) {
		return "Bearer " + t.value, nil
	}
	login := a.login(ctx, c.repository)
	if login.bearer != "" {
		return "Bearer " + login.bearer, nil
	}
	t, err := a.fetchToken(ctx, c, login)
	if err != nil {
		return "", err
	}
	a.tokens[key] = t
	return "Bearer " + t.value, nil
}

// fetchToken asks the token server, by GET with the login or, for an identity
// token, by OAuth2's POST.
func (a *auth) fetchToken(ctx context.Context, c *call, login credential) (token, error) {
	realm, err := url.Parse(a.challenge.realm)
	if err != nil {
		return token{}, err
	}
	ask := &call{
		method: http.MethodGet, url: realm, open: true,
		subject: c.subject, repository: c.repository, login: &login,
		header: http.Header{},
	}
	if login.identity != "" {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {login.identity},
			"service": {a.challenge.service}, "scope": {strings.Join(c.scopes, " ")},
			"client_id": {a.host.client.opt.UserAgent},
		}
		ask.method = http.MethodPost
		ask.header.Set("Content-Type", "application/x-www-form-urlencoded")
		ask.body = newBytes([]byte(form.Encode()))
	} else {
		query := realm.Query()
		query["scope"] = c.scopes
		if a.challenge.service != "" {
			query.Set("service", a.challenge.service)
		}
		if login.user != "" {
			query.Set("account", login.user)
			ask.header.Set("Authorization", basic(login))
		}
		realm.RawQuery = query.Encode()
	}
	resp, err := a.host.do(ctx, ask, http.StatusOK)
	if err != nil {
		return token{}, err
	}
	defer resp.Body.Close()
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	err = json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxToken)).Decode(&answer)
	value := cmp.Or(answer.Token, answer.AccessToken)
	if err == nil && value == "" {
		err = fmt.Errorf("it gave no token")
	}
	if err != nil {
		return token{}, &Error{
			Kind: Server, Registry: a.host.registry, Subject: c.subject, Err: err, transient: true,
			Text: fmt.Sprintf("the answer of %s's token server %s cannot be used: %v", a.host.registry, realm.Host, err),
		}
	}
	life := defaultTokenLife
	if answer.ExpiresIn > 0 {
		life = time.Duration(answer.ExpiresIn) * time.Second
	}
	// Renewed a little early, because it has to arrive before it expires.
	return token{value: value, expires: time.Now().Add(life * 9 / 10)}, nil
}

// checkRealm refuses token servers that a login must not be sent to: without
// TLS, unless the registry has none either, and on link-local addresses, where
// clouds keep their machines' secrets.
func (h *host) checkRealm(realm string) error {
	u, err := url.Parse(realm)
	if err != nil {
		return err
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !h.plain.Load()) {
		return fmt.Errorf("%q is not an https address", realm)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.IsLinkLocalUnicast() {
		return fmt.Errorf("%q is a link-local address", realm)
	}
	return nil
}

func basic(login credential) string {
	var r http.Request
	r.Header = http.Header{}
	r.SetBasicAuth(login.user, login.password)
	return r.Header.Get("Authorization")
}

func scopeKey(c *call) string { return strings.Join(c.scopes, " ") }
