package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/registry/registrytest"
)

func TestDownloadSurvives(t *testing.T) {
	for _, tc := range []struct {
		name  string
		times int
		fault registrytest.Fault
	}{
		{"a break", 1, registrytest.Drop(70_000)},
		{"many breaks", 6, registrytest.Drop(30_000)},
		{"a break before the first byte", 1, registrytest.Drop(0)},
		{"a clean end too early", 1, registrytest.Truncate(50_000)},
		{"unavailable", 3, registrytest.Status(503)},
		{"an internal error", 3, registrytest.Status(500)},
		{"a stalled answer", 1, registrytest.Stall(0)},
		{"a stalled body", 2, registrytest.Stall(40_000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := registrytest.New(t)
			client, _ := testClient(t, Options{})
			if strings.Contains(tc.name, "stall") {
				client.policy.stall, client.policy.perMiB = 500*time.Millisecond, 0
			}
			r := testRepository(t, client, srv.Host+"/app")
			blob, d := randomBlob(300_000)
			put(t, r, d, blob)
			srv.Inject("GET /blobs/", tc.times, tc.fault)
			checkContent(t, r, d, blob)
			if got := len(srv.Requests("GET /blobs/")); got != tc.times+1 {
				t.Errorf("%d requests, want %d", got, tc.times+1)
			}
		})
	}
}

func TestDownloadResumes(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(300_000)
	put(t, r, d, blob)

	var sent counter
	srv.Inject("GET /blobs/", 1, registrytest.Drop(200_000))
	srv.Inject("GET /blobs/", 1, sent.fault)
	checkContent(t, r, d, blob)
	if sent.bytes == 0 || sent.bytes > 100_000 {
		t.Errorf("the second connection carried %d bytes, want what was missing", sent.bytes)
	}

	srv.Inject("GET /blobs/", 1, registrytest.Drop(200_000))
	srv.Inject("GET /blobs/", 1, registrytest.NoRange())
	checkContent(t, r, d, blob)
}

func TestDownloadDamaged(t *testing.T) {
	blob, d := randomBlob(300_000)
	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
		want  string
	}{
		{"a wrong byte", registrytest.Flip(200_000), "HOST sent content whose digest is sha256:"},
		{"too short", registrytest.Truncate(1000), "HOST sent 1000 bytes instead of 300000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := registrytest.New(t)
			client, _ := testClient(t, Options{})
			r := testRepository(t, client, srv.Host+"/app")
			put(t, r, d, blob)
			if tc.name == "too short" {
				srv.Inject("GET /blobs/", 1, tc.fault)
				srv.Inject("GET /blobs/", -1, registrytest.Status(416))
			}
			srv.Inject("GET /blobs/", -1, tc.fault)
			_, err := get(t, r, d)
			var e *Error
			if !errors.As(err, &e) || e.Kind != Corrupt {
				t.Fatalf("got %v, want corrupt", err)
			}
			if text := strings.ReplaceAll(e.Text, srv.Host, "HOST"); !strings.HasPrefix(text, tc.want) {
				t.Errorf("text is %q", text)
			}
			var inner *cache.CorruptError
			if !errors.As(err, &inner) {
				t.Error("the error does not tell what cache.Blobs promises")
			}
		})
	}
	t.Run("another size", func(t *testing.T) {
		srv := registrytest.New(t)
		client, _ := testClient(t, Options{})
		r := testRepository(t, client, srv.Host+"/app")
		put(t, r, d, blob)
		for _, size := range []int64{d.Size - 1, d.Size + 1} {
			wrong := d
			wrong.Size = size
			_, err := get(t, r, wrong)
			if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != Corrupt {
				t.Errorf("size %d: got %v, want corrupt", size, err)
			}
		}
	})
}

func TestDownloadCanceled(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(300_000)
	put(t, r, d, blob)
	srv.Inject("GET /blobs/", 1, registrytest.Stall(1000))
	ctx, cancel := context.WithCancel(t.Context())
	body, err := r.Open(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUploadSurvives(t *testing.T) {
	for _, tc := range []struct {
		name  string
		match string
		times int
		fault registrytest.Fault
		sent  int // how often the blob is sent
	}{
		{"a break", "PUT /uploads/", 1, registrytest.Drop(70_000), 2},
		{"many breaks", "PUT /uploads/", 5, registrytest.Drop(70_000), 6},
		{"a stall", "PUT /uploads/", 1, registrytest.Stall(70_000), 2},
		{"a lost answer", "PUT /uploads/", 1, registrytest.Lose(), 1},
		{"unavailable", "PUT /uploads/", 2, registrytest.Status(503), 3},
		{"a lost upload", "PUT /uploads/", 1, registrytest.Refuse(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown"), 2},
		{"no upload opened", "POST /uploads/", 3, registrytest.Status(502), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := registrytest.New(t)
			client, _ := testClient(t, Options{})
			if strings.Contains(tc.name, "stall") {
				client.policy.stall, client.policy.perMiB = 500*time.Millisecond, 0
			}
			r := testRepository(t, client, srv.Host+"/app")
			blob, d := randomBlob(2 << 20)
			srv.Inject(tc.match, tc.times, tc.fault)
			put(t, r, d, blob)
			if got := len(srv.Requests("PUT /uploads/")); got != tc.sent {
				t.Errorf("sent %d times, want %d", got, tc.sent)
			}
			checkContent(t, r, d, blob)
		})
	}
}

// What cannot be read twice is not; what is small can be, whatever it comes from.
func TestUploadOfUnseekable(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")

	blob, d := randomBlob(3 << 20)
	srv.Inject("PUT /uploads/", 1, registrytest.Drop(70_000))
	err := r.Put(t.Context(), d, onlyReader{bytes.NewReader(blob)})
	if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != Network {
		t.Errorf("got %v, want a network error", err)
	}
	if got := len(srv.Requests("PUT /uploads/")); got != 1 {
		t.Errorf("sent %d times, want once", got)
	}
	if err := r.Put(t.Context(), d, onlyReader{bytes.NewReader(blob)}); err != nil {
		t.Error(err)
	}

	small, d := randomBlob(10_000)
	srv.Inject("PUT /uploads/", 1, registrytest.Drop(1000))
	if err := r.Put(t.Context(), d, onlyReader{bytes.NewReader(small)}); err != nil {
		t.Error(err)
	}
	checkContent(t, r, d, small)
}

// From one registry to another, both breaking.
func TestUploadOfDownload(t *testing.T) {
	from, to := registrytest.New(t), registrytest.New(t)
	client, _ := testClient(t, Options{})
	src, dst := testRepository(t, client, from.Host+"/app"), testRepository(t, client, to.Host+"/app")
	blob, d := randomBlob(3 << 20)
	put(t, src, d, blob)
	from.Inject("GET /blobs/", 2, registrytest.Drop(2<<20))
	to.Inject("PUT /uploads/", 1, registrytest.Drop(2<<20))
	r, err := src.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := dst.Put(t.Context(), d, r); err != nil {
		t.Fatal(err)
	}
	checkContent(t, dst, d, blob)
}

func TestUploadInChunks(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5 << 20)
	srv.Inject("PUT /uploads/", -1, registrytest.TooLarge(1<<20))
	srv.Inject("PATCH /uploads/", 2, registrytest.TooLarge(1<<20))
	srv.Inject("PATCH /uploads/", 1, registrytest.Drop(100))
	srv.Inject("PATCH /uploads/", -1, registrytest.TooLarge(1<<20))
	put(t, r, d, blob)
	checkContent(t, r, d, blob)
}

func TestUploadOfFailingReader(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(3 << 20)
	boom := errors.New("boom")
	for _, tc := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"fails", io.MultiReader(bytes.NewReader(blob[:2<<20]), iotest.ErrReader(boom)), "boom"},
		{"too short", bytes.NewReader(blob[:2<<20]), "its content has another size than 3145728 bytes"},
		{"too long", io.MultiReader(bytes.NewReader(blob), strings.NewReader("x")), "its content has another size than 3145728 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv.Forget()
			err := r.Put(t.Context(), d, tc.r)
			if err == nil || !strings.HasSuffix(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if e := (*Error)(nil); errors.As(err, &e) {
				t.Error("the registry is blamed")
			}
			if got := len(srv.Requests("PUT ")); got > 1 {
				t.Errorf("sent %d times", got)
			}
			if ok, err := r.Has(t.Context(), d); ok || err != nil {
				t.Errorf("Has: %v, %v", ok, err)
			}
		})
	}
}

func TestUploadOfWrongContent(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(5000)
	blob[17] ^= 1
	if err := r.Put(t.Context(), d, bytes.NewReader(blob)); err == nil {
		t.Error("stored")
	}
	data, m := emptyIndex("x")
	data[len(data)-4] ^= 1
	if err := r.Put(t.Context(), m, bytes.NewReader(data)); err == nil {
		t.Error("manifest stored")
	}
	for _, d := range []ocispec.Descriptor{d, m} {
		if ok, err := r.Has(t.Context(), d); ok || err != nil {
			t.Errorf("Has %s: %v, %v", d.MediaType, ok, err)
		}
	}
}

// Put's caller may do what it likes with the reader once Put has returned.
func TestUploadLeavesReader(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	blob, d := randomBlob(9 << 20) // more than the sockets' buffers take
	srv.Inject("PUT /uploads/", -1, registrytest.Refuse(403, "DENIED", "no"))
	src := &guarded{r: bytes.NewReader(blob)}
	if err := r.Put(t.Context(), d, src); err == nil {
		t.Error("no error")
	}
	src.closed = true // a race, if anybody still reads
}

type guarded struct {
	r      io.Reader
	closed bool
}

func (g *guarded) Read(p []byte) (int, error) {
	if g.closed {
		panic("read after Put returned")
	}
	return g.r.Read(p)
}

func TestWaits(t *testing.T) {
	srv := registrytest.New(t)
	client, waits := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	_, d := randomBlob(10)

	srv.Inject("HEAD ", 1, registrytest.Status(429, "Retry-After", "7"))
	srv.Inject("HEAD ", 4, registrytest.Status(503))
	if _, err := r.Has(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	lower := []time.Duration{7 * time.Second, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
	if len(*waits) != len(lower) {
		t.Fatalf("waited %v", *waits)
	}
	for i, low := range lower {
		if got := (*waits)[i]; got < low || got > 3*low {
			t.Errorf("wait %d is %v, want about %v", i, got, low)
		}
	}

	*waits = nil
	srv.Inject("HEAD ", 1, registrytest.Status(429, "Retry-After", "3600"))
	if _, err := r.Has(t.Context(), d); err == nil {
		t.Error("waited for an hour")
	}
	if diff := cmp.Diff(0, len(*waits)); diff != "" {
		t.Error(diff)
	}
}

// A blob takes two requests, whatever its size, and a registry cannot have it sent to
// an address that only we can reach.
func TestUploadAsksLittle(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Host+"/app")
	small, d := randomBlob(10)
	put(t, r, d, small)
	srv.Forget()
	large, d := randomBlob(3 << 20)
	put(t, r, d, large)
	if got := srv.Requests(""); len(got) != 2 {
		t.Errorf("a blob takes %q", got)
	}
	for _, where := range []string{"http://169.254.169.254/x", "http://10.0.0.1/x", "http://[::1]/x", ""} {
		srv.Inject("POST /uploads/", 1, registrytest.Status(http.StatusAccepted, "Location", where))
		blob, d := randomBlob(10)
		err := r.Put(t.Context(), d, bytes.NewReader(blob))
		if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != Server {
			t.Errorf("sent to %q: %v", where, err)
		}
	}
}
