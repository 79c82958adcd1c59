package local_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestHTTPChecksums(t *testing.T) {
	b := newBench(t)
	srv := httptest.NewServer(&fileServer{content: "one", etag: `"1"`})
	defer srv.Close()
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		if got := b.read(b.mustSolve(download(srv.URL+"/file", a.FromString("one"))), "file"); got != "one" {
			t.Errorf("%s: fetched %q", a, got)
		}
		want := " has the digest " + a.FromString("one").String() + ", but the checksum says " + a.FromString("two").String()
		if _, err := b.solve(download(srv.URL+"/file", a.FromString("two"))); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: error is %v, want %s", a, err, want)
		}
	}
}

// A login comes from the URL or from a secret, and is never in an error.
func TestHTTPLogin(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case r.Header.Get("Authorization") == "Bearer s3cret", r.Header.Get("Authorization") == "Digest x", user+password == "me:s3cret":
			w.Write([]byte("in"))
		case r.URL.Path == "/closed":
			http.Error(w, "never", http.StatusForbidden)
		default:
			http.Error(w, "who?", http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	_, host, _ := strings.Cut(srv.URL, "//")
	secrets := map[string]string{}
	secret := func(id string) ([]byte, error) {
		if v, ok := secrets[id]; ok {
			return []byte(v), nil
		}
		return nil, fs.ErrNotExist
	}
	for _, tc := range []struct {
		name, url string
		secrets   map[string]string
		want      string // the error
	}{
		{"none", srv.URL + "/f", nil,
			"get " + srv.URL + "/f: the server answered 401 Unauthorized: if it wants a token, give it by --secret id=HTTP_AUTH_TOKEN_127.0.0.1,env=VARIABLE"},
		{"a wrong password", "http://me:wrong@" + host + "/f", nil, "get http://me:xxxxx@" + host + "/f: the server answered 401"},
		{"a password", "http://me::s3cret@" + host + "/f", nil, ""},
		{"a token", srv.URL + "/f", map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "s3cret\n"}, ""},
		{"a header", srv.URL + "/f", map[string]string{"HTTP_AUTH_HEADER_127.0.0.1": "Digest x"}, ""},
		{"a token of another host", srv.URL + "/f", map[string]string{"HTTP_AUTH_TOKEN_localhost": "s3cret"}, "401"},
		{"no right to it", srv.URL + "/closed", nil, "the server answered 403 Forbidden"},
	} {
		b := newBench(t)
		b.worker.Secret = secret
		secrets = tc.secrets
		_, err := b.solve(download(tc.url, ""))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want %q in it", tc.name, err, tc.want)
		}
	}
}

func TestHTTPStatus(t *testing.T) {
	b := newBench(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/created":
			w.WriteHeader(http.StatusCreated)
			w.Write([]byte("made"))
		case "/unmodified":
			w.WriteHeader(http.StatusNotModified) // which nobody has asked
		case "/broken":
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("half"))
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	if got := b.read(b.mustSolve(download(srv.URL+"/created", "")), "file"); got != "made" {
		t.Errorf("fetched %q", got)
	}
	for path, want := range map[string]string{
		"/unmodified": "the server answered 304 Not Modified",
		"/broken":     "unexpected EOF",
		"/busy":       "the server answered 503 Service Unavailable",
	} {
		if _, err := b.solve(download(srv.URL+path, "")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q in it", path, err, want)
		}
	}
}
