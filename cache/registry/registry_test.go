package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/registry/registrytest"
)

// env is an environment for Options.Getenv.
type env map[string]string

func (e env) get(key string) string { return e[key] }

// login is an environment that knows one login.
func login(host, user, password string) env {
	return env{"DOCKER_AUTH_CONFIG": `{"auths":{"` + host + `":{"username":"` + user + `","password":"` + password + `"}}}`}
}

// testClient returns a client that never really waits, and what it would have
// waited.
func testClient(t *testing.T, opt Options) (*Client, *[]time.Duration) {
	t.Helper()
	if opt.Getenv == nil {
		opt.Getenv = env{}.get
	}
	c := New(opt)
	var (
		mu    sync.Mutex
		waits []time.Duration
	)
	c.policy.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, d)
		return ctx.Err()
	}
	return c, &waits
}

func testRepository(t *testing.T, c *Client, name string) *Repository {
	t.Helper()
	n, err := ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Repository(n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// randomBlob returns the same bytes for the same size in every run.
func randomBlob(size int) ([]byte, ocispec.Descriptor) {
	data := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte{byte(size), byte(size >> 8)})).Read(data)
	return data, describeBytes(ocispec.MediaTypeImageLayerGzip, data)
}

func describeBytes(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func emptyIndex(annotation string) ([]byte, ocispec.Descriptor) {
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[],"annotations":{"a":"` + annotation + `"}}`)
	return data, describeBytes(ocispec.MediaTypeImageIndex, data)
}

// onlyReader hides that a reader can seek.
type onlyReader struct{ io.Reader }

func put(t *testing.T, r *Repository, d ocispec.Descriptor, data []byte) {
	t.Helper()
	if err := r.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, r *Repository, d ocispec.Descriptor) ([]byte, error) {
	t.Helper()
	blob, err := r.Open(t.Context(), d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob)
}

// checkContent reads d and compares.
func checkContent(t *testing.T, r *Repository, d ocispec.Descriptor, want []byte) {
	t.Helper()
	got, err := get(t, r, d)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes that are not the %d wanted", len(got), len(want))
	}
}

// checkError compares kind, text and hint with the host's address, which differs
// in each run, replaced by HOST.
func checkError(t *testing.T, err error, host string, kind Kind, text, hint string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *registry.Error", err)
	}
	got := []string{e.Kind.String(), strings.ReplaceAll(err.Error(), host, "HOST"), strings.ReplaceAll(e.Hint, host, "HOST")}
	if diff := cmp.Diff([]string{kind.String(), text, hint}, got); diff != "" {
		t.Error(diff)
	}
	if e.Registry != host {
		t.Errorf("registry is %q, want %q", e.Registry, host)
	}
}

func TestRepository(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/team/app")
	ctx := t.Context()

	blob, d := randomBlob(100_000)
	if ok, err := r.Has(ctx, d); ok || err != nil {
		t.Errorf("Has of an absent blob: %v, %v", ok, err)
	}
	if _, err := r.Open(ctx, d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an absent blob: %v", err)
	}
	put(t, r, d, blob)
	if ok, err := r.Has(ctx, d); !ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	checkContent(t, r, d, blob)

	index, root := emptyIndex("one")
	if _, err := r.Resolve(ctx, "v1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve of an unknown tag: %v", err)
	}
	put(t, r, root, index)
	if err := r.Tag(ctx, "v1", root); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"v1", root.Digest.String()} {
		got, err := r.Resolve(ctx, ref)
		if diff := cmp.Diff(root, got); diff != "" || err != nil {
			t.Errorf("Resolve %s: %v\n%s", ref, err, diff)
		}
	}
	got, err := client.Resolve(ctx, srv.Host+"/team/app:v1")
	if diff := cmp.Diff(root, got); diff != "" || err != nil {
		t.Errorf("client's Resolve: %v\n%s", err, diff)
	}
	fresh := testRepository(t, client, srv.Host+"/team/app")
	checkContent(t, fresh, root, index)
	if err := fresh.Tag(ctx, "v2", root); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Resolve(ctx, "v2"); err != nil || got.Digest != root.Digest {
		t.Errorf("Resolve of the second tag: %v, %v", got, err)
	}
}

func TestEmptyBlob(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	d := describeBytes(ocispec.MediaTypeImageLayer, nil)
	put(t, r, d, nil)
	checkContent(t, r, d, []byte{})
}

// Moving the tag is all that is left to do for a manifest that was just put.
func TestTagSendsWhatWasPut(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	data, d := emptyIndex("one")
	put(t, r, d, data)
	srv.Forget()
	if err := r.Tag(t.Context(), "v1", d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PUT /v2/app/manifests/v1"}, srv.Requests("")); diff != "" {
		t.Error(diff)
	}
}

func TestResolveWithoutHead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
	}{
		{"not allowed", registrytest.Status(405)},
		{"no digest", registrytest.Without("Docker-Content-Digest")},
		{"no media type", registrytest.Without("Content-Type")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := registrytest.New(t)
			client, _ := testClient(t, Options{})
			r := testRepository(t, client, srv.Host+"/app")
			data, root := emptyIndex("one")
			put(t, r, root, data)
			if err := r.Tag(t.Context(), "v1", root); err != nil {
				t.Fatal(err)
			}
			srv.Inject("HEAD /manifests/", -1, tc.fault)
			srv.Inject("GET /manifests/", -1, registrytest.Without("Content-Type", "Docker-Content-Digest"))
			got, err := client.Resolve(t.Context(), srv.Host+"/app:v1")
			if diff := cmp.Diff(root, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func TestHasWithoutHead(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	data, there := emptyIndex("one")
	put(t, r, there, data)
	_, absent := emptyIndex("two")
	srv.Inject("HEAD /manifests/", -1, registrytest.Status(405))
	for d, want := range map[*ocispec.Descriptor]bool{&there: true, &absent: false} {
		if ok, err := r.Has(t.Context(), *d); ok != want || err != nil {
			t.Errorf("Has: %v, %v, want %v", ok, err, want)
		}
	}
	srv.Inject("GET /manifests/", -1, registrytest.Status(405))
	if ok, err := r.Has(t.Context(), there); ok || err == nil {
		t.Errorf("Has of who knows what: %v, %v", ok, err)
	}
}

func TestMount(t *testing.T) {
	srv := registrytest.New(t)
	srv.RequireToken("me", "secret")
	client, _ := testClient(t, Options{Getenv: login(srv.Host, "me", "secret").get})
	base, app := testRepository(t, client, srv.Host+"/base"), testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	put(t, base, d, blob)
	for _, tc := range []struct {
		from string
		want bool
	}{
		{"ghcr.io/base", false},
		{srv.Host + "/app", false},
		{srv.Host + "/other", false},
		{srv.Host + "/base", true},
	} {
		if got, err := app.Mount(t.Context(), d, tc.from); got != tc.want || err != nil {
			t.Errorf("from %s: %v, %v, want %v", tc.from, got, err, tc.want)
		}
	}
	checkContent(t, app, d, blob)
}

// An upload that the registry opened instead of mounting is not left behind.
func TestPutAfterRefusedMount(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	if ok, err := r.Mount(t.Context(), d, srv.Host+"/other"); ok || err != nil {
		t.Fatalf("Mount: %v, %v", ok, err)
	}
	if opened, closed := srv.Requests("POST "), srv.Requests("DELETE /uploads/"); len(opened) != 1 || len(closed) != 1 {
		t.Errorf("uploads opened: %q, closed: %q", opened, closed)
	}
	put(t, r, d, blob)
	checkContent(t, r, d, blob)
}

func TestBadArguments(t *testing.T) {
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, "localhost:1/app")
	ctx := t.Context()
	bad := ocispec.Descriptor{Digest: "sha256:../../x", Size: 1}
	if _, err := r.Has(ctx, bad); err == nil {
		t.Error("Has takes a bad digest")
	}
	if _, err := r.Open(ctx, bad); err == nil {
		t.Error("Open takes a bad digest")
	}
	if err := r.Put(ctx, bad, strings.NewReader("x")); err == nil {
		t.Error("Put takes a bad digest")
	}
	if _, err := r.Resolve(ctx, "../x"); err == nil {
		t.Error("Resolve takes a bad tag")
	}
	if err := r.Tag(ctx, "a b", bad); err == nil {
		t.Error("Tag takes a bad tag")
	}
	if _, err := client.Repository(Name{}); err == nil {
		t.Error("Repository takes no name")
	}
}

func TestProgress(t *testing.T) {
	srv := registrytest.New(t)
	var (
		mu   sync.Mutex
		seen []int64
	)
	client, _ := testClient(t, Options{Progress: func(_ ocispec.Descriptor, done int64) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, done)
	}})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(100_000)
	check := func(what string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 || seen[len(seen)-1] != d.Size {
			t.Errorf("%s: progress is %v, want it to end with %d", what, seen, d.Size)
		}
		seen = nil
	}
	put(t, r, d, blob)
	check("upload")
	checkContent(t, r, d, blob)
	check("download")
}

func TestNewDoesNothing(t *testing.T) {
	asked := false
	c := New(Options{Getenv: func(string) string { asked = true; return "" }})
	if _, err := c.Repository(Name{Registry: "registry.invalid", Repository: "app"}); err != nil {
		t.Fatal(err)
	}
	if asked {
		t.Error("the environment was read before it was needed")
	}
}

// Who waits is told why and how long.
func TestWaiting(t *testing.T) {
	srv := registrytest.New(t)
	var told []string
	client, waits := testClient(t, Options{Waiting: func(err error, wait time.Duration) {
		told = append(told, fmt.Sprint(err, " ", wait))
	}})
	srv.Inject("GET ", 2, registrytest.Status(503, ""))
	srv.Inject("HEAD ", 2, registrytest.Status(503, ""))
	_, _ = client.Resolve(t.Context(), srv.Host+"/app")
	if len(told) == 0 || len(told) != len(*waits) || !strings.Contains(told[0], "503") {
		t.Errorf("told of %q, waited %v", told, *waits)
	}
}
