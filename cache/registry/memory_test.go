package registry

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// zeros is a blob that takes no memory.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// However large a blob is, neither direction keeps more of it than a buffer.
func TestConstantMemory(t *testing.T) {
	const size, allowed = 64 << 20, 4 << 20
	h := sha256.New()
	io.CopyN(h, zeros{}, size)
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, h), Size: size}

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodGet:
			if r.URL.Path == "/v2/" {
				return
			}
			w.Header().Set("Content-Length", strconv.Itoa(size))
			io.CopyN(w, zeros{}, size)
		case http.MethodPost:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPatch:
			if n, _ := io.Copy(io.Discard, r.Body); n != size {
				t.Errorf("%d bytes arrived", n)
			}
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer srv.Close()
	client, _ := testClient(t, Options{})
	r := testRepository(t, client, srv.Listener.Addr().String()+"/app")
	for _, tc := range []struct {
		name     string
		transfer func() error
	}{
		{"download", func() error {
			blob, err := r.Open(t.Context(), d)
			if err != nil {
				return err
			}
			defer blob.Close()
			_, err = io.Copy(io.Discard, blob)
			return err
		}},
		{"upload", func() error { return r.Put(t.Context(), d, io.LimitReader(zeros{}, size)) }},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := tc.transfer(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > allowed {
			t.Errorf("%s of %d bytes allocates %d", tc.name, size, n)
		}
	}
}
