package registrytest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// login is what the server wants from its clients.
type login struct {
	scheme         string // "", "Basic" or "Bearer"
	user, password string
	publicPull     bool
}

// RequireBasic makes the server want a login by HTTP's basic scheme.
func (s *Server) RequireBasic(user, password string) {
	s.require(login{scheme: "Basic", user: user, password: password})
}

// RequireToken makes the server want a token of its own token server, which
// gives one for this login. The password also is an identity token.
func (s *Server) RequireToken(user, password string) {
	s.require(login{scheme: "Bearer", user: user, password: password})
}

// RequireTokenToPush is RequireToken, except that the token server also gives
// tokens for pulling to anybody, as Docker Hub does.
func (s *Server) RequireTokenToPush(user, password string) {
	s.require(login{scheme: "Bearer", user: user, password: password, publicPull: true})
}

func (s *Server) require(l login) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.login = l
}

// Revoke makes the tokens that were issued worthless.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// allowed tells whether a request may be answered; if not, it has been.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.login.scheme {
	case "":
		return true
	case "Basic":
		if user, password, ok := r.BasicAuth(); ok && user == s.login.user && password == s.login.password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registrytest"`)
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return false
	}
	need := scopeOf(r)
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	granted, known := s.tokens[token]
	if known && (need == "" || covers(granted, need)) {
		return true
	}
	challenge := fmt.Sprintf(`Bearer realm="%s/token",service="registrytest"`, s.http.URL)
	if need != "" {
		challenge += fmt.Sprintf(",scope=%q", need)
	}
	if known {
		challenge += `,error="insufficient_scope"`
		fail401(w, challenge, "DENIED", "requested access to the resource is denied")
		return false
	}
	fail401(w, challenge, "UNAUTHORIZED", "authentication required")
	return false
}

func fail401(w http.ResponseWriter, challenge, code, message string) {
	w.Header().Set("WWW-Authenticate", challenge)
	fail(w, http.StatusUnauthorized, code, message)
}

// scopeOf is the right that a request needs, "" for none in particular.
func scopeOf(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, part := range []string{"/blobs/", "/manifests/", "/tags/"} {
		if repository, _, ok := strings.Cut(path, part); ok {
			actions := "pull,push"
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				actions = "pull"
			}
			return "repository:" + repository + ":" + actions
		}
	}
	return ""
}

// covers tells whether all that is needed was granted; the order of actions in a
// scope means nothing.
func covers(granted []string, need string) bool {
	resource, actions := splitScope(need)
	return !slices.ContainsFunc(actions, func(action string) bool {
		return !slices.ContainsFunc(granted, func(g string) bool {
			r, a := splitScope(g)
			return r == resource && slices.Contains(a, action)
		})
	})
}

func splitScope(scope string) (resource string, actions []string) {
	i := strings.LastIndexByte(scope, ':')
	return scope[:i+1], strings.Split(scope[i+1:], ",")
}

// serveToken is the token server: GET with a basic login, or POST with an
// identity token (OAuth2).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, tried := r.BasicAuth()
	good := tried && user == s.login.user && password == s.login.password
	if r.Method == http.MethodPost {
		tried, good = true, r.Form.Get("grant_type") == "refresh_token" && r.Form.Get("refresh_token") == s.login.password
	}
	var granted []string
	for _, scope := range r.Form["scope"] {
		for _, scope := range strings.Fields(scope) {
			if !good && s.login.publicPull {
				resource, _ := splitScope(scope)
				scope = resource + "pull"
			}
			granted = append(granted, scope)
		}
	}
	if !good && (tried || !s.login.publicPull) {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	token := rand.Text()
	s.tokens[token] = granted
	json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}
