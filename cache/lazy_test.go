package cache_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// remote counts how often a blob is fetched, and can break on the way.
type remote struct {
	cache.Blobs
	opened  atomic.Int32
	content string
}

func (r *remote) Open(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	r.opened.Add(1)
	return io.NopCloser(strings.NewReader(r.content)), nil
}

func lazy(t *testing.T, content string) (*cache.Lazy, *remote, ocispec.Descriptor) {
	s := openStore(t, t.TempDir())
	d := ocispec.Descriptor{Digest: digest.FromString("content"), Size: int64(len("content"))}
	if err := s.AddOrigin(d.Digest, "example.com/repo"); err != nil {
		t.Fatal(err)
	}
	r := &remote{content: content}
	return &cache.Lazy{Store: s, Remote: func(string) (cache.Blobs, error) { return r, nil }}, r, d
}

func TestLazyFetchesOnce(t *testing.T) {
	l, r, d := lazy(t, "content")
	if ok, err := l.Has(t.Context(), d); !ok || err != nil {
		t.Errorf("Has is %v, %v", ok, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			rc, err := l.Open(t.Context(), d)
			if err != nil {
				t.Error(err)
				return
			}
			defer rc.Close()
			got, err := io.ReadAll(rc)
			if err != nil || string(got) != "content" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := r.opened.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestLazyKeepsOnlyWhatIsWhole(t *testing.T) {
	l, r, d := lazy(t, "content")
	rc, err := l.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(rc, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	rc.Close()
	if ok, _ := l.Store.Has(t.Context(), d); ok {
		t.Error("half a blob was kept")
	}
	r.content = "CONTENT"
	rc, err = l.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var corrupt *cache.CorruptError
	if _, err := io.ReadAll(rc); !errors.As(err, &corrupt) {
		t.Errorf("reading other bytes: %v, want a CorruptError", err)
	}
}

// What every place says it does not have is not asked for again; what could not be
// asked for is.
func TestLazyForgetsWhatIsLost(t *testing.T) {
	for _, answer := range []error{fs.ErrNotExist, errors.New("no route to host")} {
		l, _, d := lazy(t, "content")
		l.Remote = func(string) (cache.Blobs, error) { return nil, answer }
		_, err := l.Open(t.Context(), d)
		if !errors.Is(err, answer) {
			t.Errorf("error is %v, want %v", err, answer)
		}
		var lost *cache.LostError
		gone := answer == fs.ErrNotExist
		if errors.As(err, &lost) != gone {
			t.Errorf("%v is a LostError: %v", err, !gone)
		}
		if has, err := l.Has(t.Context(), d); has == gone || err != nil {
			t.Errorf("after %v: Has is %v, %v", answer, has, err)
		}
	}
}
