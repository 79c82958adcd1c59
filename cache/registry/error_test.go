package registry

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lamina/cache/registry/registrytest"
)

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name       string
		fault      registrytest.Fault
		kind       Kind
		text, hint string
	}{
		{
			"unknown", registrytest.Refuse(404, "MANIFEST_UNKNOWN", "manifest unknown"),
			NotFound, "HOST/app:v1: not found in HOST: manifest unknown", "check the name and the tag",
		},
		{
			"too many", registrytest.Refuse(429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
			RateLimited, "HOST/app:v1: HOST limits requests: You have reached your pull rate limit.",
			"wait a while, or log in: a login has a higher limit",
		},
		{
			"down", registrytest.Status(503),
			Server, "HOST/app:v1: HOST answered 503 Service Unavailable", "the registry has a problem: try again later",
		},
		{
			"odd", registrytest.Status(418),
			Server, "HOST/app:v1: HOST answered 418 I'm a teapot", "",
		},
		{
			"odder", registrytest.Refuse(444, "SOME_THING", ""),
			Server, "HOST/app:v1: HOST answered 444: some thing", "",
		},
		{
			"escape sequences", registrytest.Refuse(400, "X", "a\x1b[31m\nb"+strings.Repeat("é", 400)),
			Server, "HOST/app:v1: HOST answered 400 Bad Request: a [31m b" + strings.Repeat("é", 292) + "…", "",
		},
		{
			"gone", registrytest.Drop(0),
			Network, "HOST/app:v1: the connection to HOST broke after 0 of 112 bytes: unexpected EOF", "check the network, and try again",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := registrytest.New(t)
			client, _ := testClient(t, Options{})
			r := testRepository(t, client, srv.Host+"/app")
			data, d := emptyIndex("x")
			put(t, r, d, data)
			if err := r.Tag(t.Context(), "v1", d); err != nil {
				t.Fatal(err)
			}
			srv.Inject("HEAD ", -1, registrytest.Status(405)) // so that errors have bodies
			srv.Inject("GET /manifests/", -1, tc.fault)
			_, err := client.Resolve(t.Context(), srv.Host+"/app:v1")
			checkError(t, err, srv.Host, tc.kind, tc.text, tc.hint)
			if got, want := errors.Is(err, fs.ErrNotExist), tc.kind == NotFound; got != want {
				t.Errorf("does not exist: %v, want %v", got, want)
			}
		})
	}
}

func TestBlobErrors(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)

	_, err := r.Open(t.Context(), d)
	checkError(t, err, srv.Host, NotFound,
		"blob sha256:ccf8d16789cf of HOST/app: not found in HOST: blob unknown to registry", "check the name and the tag")

	put(t, r, d, blob)
	srv.Inject("GET /blobs/", -1, registrytest.Drop(100))
	_, err = get(t, r, d)
	checkError(t, err, srv.Host, Network,
		"blob sha256:ccf8d16789cf of HOST/app: the connection to HOST broke after 800 of 5000 bytes: unexpected EOF",
		"check the network, and try again")
}

func TestCorruptError(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	put(t, r, d, blob)
	srv.Inject("GET /blobs/", -1, registrytest.Flip(0))
	_, err := get(t, r, d)
	checkError(t, err, srv.Host, Corrupt,
		"blob sha256:ccf8d16789cf of HOST/app: HOST sent content whose digest is "+flipped(blob),
		"the registry, or a proxy on the way, damages it: try again, and tell whoever runs it")
}

func flipped(data []byte) string {
	data[0] ^= 0xff
	return describeBytes("", data).Digest.String()
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	client, waits := testClient(t, Options{})
	_, err = client.Resolve(t.Context(), host+"/app")
	checkError(t, err, host, Network,
		"HOST/app:latest: cannot reach HOST: dial tcp HOST: connect: connection refused",
		"check the network, and HTTPS_PROXY and NO_PROXY if there is a proxy")
	if len(*waits) != 3 {
		t.Errorf("waited %v, want three short waits", *waits)
	}
}

func TestCertificates(t *testing.T) {
	srv := registrytest.NewTLS(t)
	blob, d := randomBlob(5000)

	client, waits := testClient(t, Options{})
	_, err := testRepository(t, client, srv.Host+"/app").Has(t.Context(), d)
	checkError(t, err, srv.Host, Network,
		"blob sha256:ccf8d16789cf of HOST/app: cannot reach HOST: tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"if you trust it, put its CA's certificate into /etc/docker/certs.d/HOST/ca.crt")
	if len(*waits) != 0 {
		t.Errorf("waited %v", *waits)
	}

	client, _ = testClient(t, Options{Insecure: []string{srv.Host}})
	put(t, testRepository(t, client, srv.Host+"/app"), d, blob)

	home := t.TempDir()
	dir := filepath.Join(home, ".config/containers/certs.d", srv.Host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), srv.Certificate(), 0o644); err != nil {
		t.Fatal(err)
	}
	client, _ = testClient(t, Options{Getenv: env{"HOME": home}.get})
	checkContent(t, testRepository(t, client, srv.Host+"/app"), d, blob)

	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	client, waits = testClient(t, Options{Getenv: env{"HOME": home}.get})
	_, err = testRepository(t, client, srv.Host+"/app").Has(t.Context(), d)
	checkError(t, err, srv.Host, Network,
		"blob sha256:ccf8d16789cf of HOST/app: certificates: no certificate in "+strings.ReplaceAll(dir, srv.Host, "HOST")+"/ca.crt", "")
	if len(*waits) != 0 {
		t.Errorf("waited %v", *waits)
	}
}

func TestRedirectOutOfTLS(t *testing.T) {
	srv := registrytest.NewTLS(t)
	home := t.TempDir()
	dir := filepath.Join(home, ".config/containers/certs.d", srv.Host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), srv.Certificate(), 0o644); err != nil {
		t.Fatal(err)
	}
	client, waits := testClient(t, Options{Getenv: env{"HOME": home}.get})
	srv.Inject("GET /blobs/", -1, registrytest.Redirect("http", "storage.invalid"))
	_, d := randomBlob(5000)
	_, err := testRepository(t, client, srv.Host+"/app").Open(t.Context(), d)
	if len(*waits) != 0 {
		t.Errorf("waited %v", *waits)
	}
	checkError(t, err, srv.Host, Server,
		"blob sha256:ccf8d16789cf of HOST/app: HOST redirects from https to http, at storage.invalid", "")
}

// Where clouds keep their machines' secrets, no registry keeps its blobs.
func TestRedirectToLinkLocal(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	srv.Inject("GET /blobs/", -1, registrytest.Redirect("http", "169.254.169.254"))
	_, d := randomBlob(5000)
	_, err := testRepository(t, client, srv.Host+"/app").Open(t.Context(), d)
	checkError(t, err, srv.Host, Server,
		"blob sha256:ccf8d16789cf of HOST/app: HOST redirects to a link-local address, 169.254.169.254", "")
}
