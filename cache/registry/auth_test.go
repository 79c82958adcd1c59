package registry

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/cache/registry/registrytest"
)

func TestLogin(t *testing.T) {
	for _, tc := range []struct {
		name    string
		require func(*registrytest.Server)
		login   func(host string) env
	}{
		{
			"basic",
			func(s *registrytest.Server) { s.RequireBasic("me", "secret") },
			func(host string) env { return login(host, "me", "secret") },
		},
		{
			"token",
			func(s *registrytest.Server) { s.RequireToken("me", "secret") },
			func(host string) env { return login(host, "me", "secret") },
		},
		{
			"identity token",
			func(s *registrytest.Server) { s.RequireToken("me", "secret") },
			func(host string) env {
				return env{"DOCKER_AUTH_CONFIG": `{"auths":{"` + host + `":{"identitytoken":"secret"}}}`}
			},
		},
		{
			"token to push only",
			func(s *registrytest.Server) { s.RequireTokenToPush("me", "secret") },
			func(host string) env { return login(host, "me", "secret") },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := registrytest.New(t)
			tc.require(srv)
			client, _ := testClient(t, Options{Getenv: tc.login(srv.Host).get})
			r := testRepository(t, client, srv.Host+"/app")
			blob, d := randomBlob(5000)
			if ok, err := r.Has(t.Context(), d); ok || err != nil {
				t.Fatalf("Has: %v, %v", ok, err)
			}
			put(t, r, d, blob)
			checkContent(t, testRepository(t, client, srv.Host+"/app"), d, blob)

			// In the middle of things, tokens expire.
			srv.Revoke()
			checkContent(t, r, d, blob)
		})
	}
}

func TestPublicPull(t *testing.T) {
	srv := registrytest.New(t)
	blob, d := randomBlob(5000)
	anonymous, _ := testClient(t, Options{})
	put(t, testRepository(t, anonymous, srv.Host+"/app"), d, blob)
	srv.RequireTokenToPush("me", "secret")
	checkContent(t, testRepository(t, anonymous, srv.Host+"/app"), d, blob)
}

// One token serves all requests of the same kind.
func TestTokenIsKept(t *testing.T) {
	srv := registrytest.New(t)
	srv.RequireToken("me", "secret")
	client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	put(t, r, d, blob)
	for range 3 {
		checkContent(t, r, d, blob)
	}
	if got := srv.Requests("GET /token"); len(got) != 1 {
		t.Errorf("asked for tokens: %q", got)
	}
	if diff := cmp.Diff(5, len(srv.Requests("POST "))+len(srv.Requests("GET /v2/"))); diff != "" {
		t.Error(diff) // a ping, a POST, three GETs
	}
}

// Many that need a token at once ask for it once.
func TestTokenIsShared(t *testing.T) {
	srv := registrytest.New(t)
	blob, d := randomBlob(5000)
	open, _ := testClient(t, Options{})
	put(t, testRepository(t, open, srv.Host+"/app"), d, blob)
	srv.RequireToken("me", "secret")
	client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := get(t, testRepository(t, client, srv.Host+"/app"), d); err != nil || len(got) != len(blob) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if got := srv.Requests("GET /token"); len(got) != 1 {
		t.Errorf("asked for tokens: %q", got)
	}
}

// Some registries only let those look that may push.
func TestHasOfRepositoryThatIsNotThere(t *testing.T) {
	srv := registrytest.New(t)
	srv.RequireToken("me", "secret")
	pullOnly := registrytest.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.RawQuery, "push") {
			registrytest.Refuse(http.StatusForbidden, "DENIED", "no such repository")(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
	srv.Inject("GET /token", -1, pullOnly)
	client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
	_, d := randomBlob(5000)
	if ok, err := testRepository(t, client, srv.Host+"/app").Has(t.Context(), d); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestAuthErrors(t *testing.T) {
	const (
		subject = "HOST/app:v1"
		logIn   = "log in with 'docker login HOST' or 'podman login HOST'"
		check   = "check the name; if the repository is private, " + logIn
	)
	for _, tc := range []struct {
		name       string
		require    func(*registrytest.Server)
		env        func(host string) env
		kind       Kind
		text, hint string
	}{
		{
			"basic, anonymous",
			func(s *registrytest.Server) { s.RequireBasic("me", "secret") },
			func(string) env { return env{} },
			Auth, subject + ": HOST wants a login", check,
		},
		{
			"basic, wrong",
			func(s *registrytest.Server) { s.RequireBasic("me", "secret") },
			func(host string) env { return login(host, "you", "secret") },
			Auth, subject + `: HOST refused the login of user "you"`,
			"that login is from $DOCKER_AUTH_CONFIG; " + logIn,
		},
		{
			"token, anonymous",
			func(s *registrytest.Server) { s.RequireToken("me", "secret") },
			func(string) env { return env{} },
			Auth, subject + ": HOST wants a login", check,
		},
		{
			"token, wrong",
			func(s *registrytest.Server) { s.RequireToken("me", "secret") },
			func(host string) env { return login(host, "me", "wrong") },
			Auth, subject + `: HOST refused the login of user "me": incorrect username or password`,
			"that login is from $DOCKER_AUTH_CONFIG; " + logIn,
		},
		{
			"token, wrong identity",
			func(s *registrytest.Server) { s.RequireToken("me", "secret") },
			func(host string) env {
				return env{"DOCKER_AUTH_CONFIG": `{"auths":{"` + host + `":{"identitytoken":"x"}}}`}
			},
			Auth, subject + ": HOST refused the login of the holder of this token: incorrect username or password",
			"that login is from $DOCKER_AUTH_CONFIG; " + logIn,
		},
		{
			"configuration that cannot be read",
			func(s *registrytest.Server) { s.RequireBasic("me", "secret") },
			func(string) env { return env{"DOCKER_AUTH_CONFIG": "{"} },
			Auth, subject + ": HOST wants a login",
			check + " ($DOCKER_AUTH_CONFIG: unexpected end of JSON input)",
		},
		{
			"denied",
			func(s *registrytest.Server) {
				s.RequireBasic("me", "secret")
				s.Inject("GET /v2/app/", -1, registrytest.Refuse(403, "DENIED", "requested access to the resource is denied"))
			},
			func(host string) env { return login(host, "me", "secret") },
			Denied, subject + `: HOST denies access to user "me": requested access to the resource is denied`,
			"check the name, and what this login may do in the repository",
		},
		{
			"token server elsewhere, in the clear",
			func(s *registrytest.Server) {
				s.Inject("GET /v2/", -1, registrytest.Status(401, "WWW-Authenticate", `Bearer realm="http://169.254.169.254/latest"`))
			},
			func(host string) env { return login(host, "me", "secret") },
			Server, subject + `: HOST names a token server that is not to be trusted: "http://169.254.169.254/latest" is a link-local address`, "",
		},
		{
			"token server that speaks Docker Hub's dialect",
			func(s *registrytest.Server) {
				s.RequireToken("me", "secret")
				s.Inject("GET /token", -1, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
					w.WriteHeader(http.StatusUnauthorized)
					io.WriteString(w, `{"details":"account is locked"}`)
				})
			},
			func(host string) env { return login(host, "me", "secret") },
			Auth, subject + `: HOST refused the login of user "me": account is locked`,
			"that login is from $DOCKER_AUTH_CONFIG; " + logIn,
		},
		{
			"no registry",
			func(s *registrytest.Server) { s.Inject("GET /v2/", -1, registrytest.Status(404)) },
			func(host string) env { return env{} },
			Server, subject + ": HOST is no registry: it has no /v2/", "check the registry's name",
		},
		{
			"no token server",
			func(s *registrytest.Server) {
				s.RequireToken("me", "secret")
				s.Inject("GET /token", -1, registrytest.Status(404))
			},
			func(host string) env { return env{} },
			Server, subject + ": the answer of HOST's token server HOST cannot be used: GET http://HOST/token?scope=repository%3Aapp%3Apull&service=registrytest: unexpected status code 404 Not Found", "",
		},
		{
			"token server with nonsense",
			func(s *registrytest.Server) {
				s.RequireToken("me", "secret")
				s.Inject("GET /token", -1, registrytest.Status(200))
			},
			func(host string) env { return login(host, "me", "secret") },
			Server, subject + ": the answer of HOST's token server HOST cannot be used: unexpected end of JSON input", "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := registrytest.New(t)
			tc.require(srv)
			srv.Inject("HEAD ", -1, registrytest.Status(405)) // so that errors have bodies
			client, _ := testClient(t, Options{Getenv: tc.env(srv.Host).get})
			_, err := client.Resolve(t.Context(), srv.Host+"/app:v1")
			checkError(t, err, srv.Host, tc.kind, tc.text, tc.hint)
			if got, want := errors.Is(err, fs.ErrPermission), tc.kind == Auth || tc.kind == Denied; got != want {
				t.Errorf("is a matter of permission: %v, want %v", got, want)
			}
		})
	}
}

// The login is for the registry, not for where it sends us.
func TestRedirectKeepsLoginBack(t *testing.T) {
	srv := registrytest.New(t)
	srv.RequireBasic("me", "secret")
	client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	put(t, r, d, blob)

	var leaked []string
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			leaked = append(leaked, a)
		}
		w.Write(blob)
	}))
	defer storage.Close()
	srv.Inject("GET /blobs/", 1, registrytest.Redirect("http", storage.Listener.Addr().String()))
	checkContent(t, r, d, blob)
	if len(leaked) > 0 {
		t.Errorf("the storage was sent %q", leaked)
	}
}

// Some registries send their clients to others, with token servers of their own.
func TestRedirectToAnotherRegistry(t *testing.T) {
	front, back := registrytest.New(t), registrytest.New(t)
	blob, d := randomBlob(5000)
	open, _ := testClient(t, Options{})
	put(t, testRepository(t, open, back.Host+"/app"), d, blob)
	front.RequireTokenToPush("me", "secret")
	back.RequireTokenToPush("you", "other")
	front.Inject("GET /blobs/", -1, registrytest.Redirect("http", back.Host))
	client, _ := testClient(t, Options{})
	checkContent(t, testRepository(t, client, front.Host+"/app"), d, blob)
}

// A token that expires between the requests of an upload is renewed, and what
// the refused request carried is sent again.
func TestTokenExpiresDuringUpload(t *testing.T) {
	for _, tc := range []struct {
		name, match string
		blob        bool
	}{
		{"before the content", "PUT /uploads/", true},
		{"before the manifest", "PUT /manifests/", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := registrytest.New(t)
			srv.RequireToken("me", "secret")
			client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
			r := testRepository(t, client, srv.Host+"/app")
			srv.Inject(tc.match, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				srv.Revoke()
				next.ServeHTTP(w, r)
			})
			data, d := emptyIndex("x")
			if tc.blob {
				data, d = randomBlob(2 << 20)
			}
			put(t, r, d, data)
			if got := srv.Requests("GET /token"); len(got) != 2 {
				t.Errorf("asked for tokens: %q", got)
			}
			checkContent(t, testRepository(t, client, srv.Host+"/app"), d, data)
		})
	}
}

// Token servers may be at other private addresses than their registry.
func TestTokenServerElsewhere(t *testing.T) {
	srv := registrytest.New(t)
	srv.RequireToken("me", "secret")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r2 := r.Clone(r.Context())
		r2.RequestURI, r2.URL.Scheme, r2.URL.Host = "", "http", srv.Host
		resp, err := http.DefaultTransport.RoundTrip(r2)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	defer elsewhere.Close()
	srv.Inject("GET /v2/", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&movedRealm{w, elsewhere.URL}, r)
	})
	client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	put(t, r, d, blob)
	checkContent(t, r, d, blob)
	srv.Revoke()
	checkContent(t, r, d, blob)
}

// movedRealm names another token server.
type movedRealm struct {
	http.ResponseWriter
	server string
}

func (w *movedRealm) WriteHeader(code int) {
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+w.server+`/token",service="registrytest"`)
	}
	w.ResponseWriter.WriteHeader(code)
}
