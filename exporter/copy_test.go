package exporter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/exporter"
)

// watched is a repository that notes what it is sent, checks the order, and can
// be made to fail.
type watched struct {
	*cachetest.Memory
	t      *testing.T
	mu     sync.Mutex
	puts   []digest.Digest
	failAt int             // the number of the Put that fails; 0: none
	cancel func()          // called by the Put that fails, if set
	mounts map[string]bool // repositories to mount from
	tried  []string
	active int
	most   int // the largest number of Puts at once
}

func (w *watched) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	w.mu.Lock()
	w.puts = append(w.puts, d.Digest)
	n := len(w.puts)
	w.active++
	w.most = max(w.most, w.active)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.active--
		w.mu.Unlock()
	}()
	if n == w.failAt {
		if w.cancel != nil {
			w.cancel()
			return ctx.Err()
		}
		return errors.New("the disk is full")
	}
	if err := w.Memory.Put(ctx, d, r); err != nil {
		return err
	}
	// Whatever is visible must be complete at any moment.
	return exporter.Walk(ctx, w.Memory, d, func(child ocispec.Descriptor) error {
		if ok, err := w.Has(ctx, child); err != nil || !ok {
			w.t.Errorf("%s was sent before %s, which it refers to", d.Digest, child.Digest)
		}
		return nil
	})
}

func (w *watched) Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error) {
	w.mu.Lock()
	w.tried = append(w.tried, from)
	ok := w.mounts[from]
	w.mu.Unlock()
	if !ok {
		return false, fmt.Errorf("no blob %s in %s", d.Digest, from)
	}
	data := cachetest.NewMemory() // stands for the registry's own copy
	cachetest.Image(w.t, data, amd64, 1, 3, 1000)
	r, err := data.Open(ctx, d)
	if err != nil {
		return false, err
	}
	defer r.Close()
	return true, w.Memory.Put(ctx, d, r)
}

func TestCopy(t *testing.T) {
	src := cachetest.NewMemory()
	index := cachetest.ImageIndex(t, src,
		cachetest.Image(t, src, amd64, 1, 3, 1000), cachetest.Image(t, src, arm64, 1, 5, 1000))
	dst := &watched{Memory: cachetest.NewMemory(), t: t}

	var mu sync.Mutex
	done := map[digest.Digest]int64{}
	progress := func(d ocispec.Descriptor, n int64) {
		mu.Lock()
		defer mu.Unlock()
		if n < done[d.Digest] || n > d.Size {
			t.Errorf("progress of %s went from %d to %d of %d", d.Digest, done[d.Digest], n, d.Size)
		}
		done[d.Digest] = n
	}
	e := exporter.To(dst, "one", "two")
	e.Copy = exporter.CopyOptions{Jobs: 2, Progress: progress}
	if err := e.Export(t.Context(), src, index); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(src.Digests(), dst.Digests()); diff != "" {
		t.Errorf("what was copied: %s", diff)
	}
	if len(dst.puts) != len(src.Digests()) {
		t.Errorf("%d blobs were sent, there are %d", len(dst.puts), len(src.Digests()))
	}
	if dst.most > 2 {
		t.Errorf("%d blobs at once, want at most 2", dst.most)
	}
	for _, d := range src.Digests() {
		if done[d] == 0 {
			t.Errorf("no progress of %s", d)
		}
	}
	for _, name := range e.Names {
		if d, err := dst.Resolve(t.Context(), name); err != nil || d.Digest != index.Digest {
			t.Errorf("%s = %v, %v", name, d, err)
		}
	}

	dst.puts = nil
	if err := e.Export(t.Context(), src, index); err != nil {
		t.Fatal(err)
	}
	if len(dst.puts) != 0 {
		t.Errorf("%d blobs were sent a second time", len(dst.puts))
	}
}

func TestCopyInterrupted(t *testing.T) {
	src := cachetest.NewMemory()
	root := cachetest.Image(t, src, amd64, 1, 3, 1000)
	total := len(src.Digests())
	for failAt := 1; failAt <= total; failAt++ {
		for _, canceled := range []bool{false, true} {
			dst := &watched{Memory: cachetest.NewMemory(), t: t, failAt: failAt}
			ctx, cancel := context.WithCancel(t.Context())
			if canceled {
				dst.cancel = cancel
			}
			err := exporter.To(dst, "name").Export(ctx, src, root)
			cancel()
			if err == nil || canceled != errors.Is(err, context.Canceled) {
				t.Fatalf("put %d of %d, canceled %v: error %v", failAt, total, canceled, err)
			}
			if d, err := dst.Resolve(t.Context(), "name"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("put %d: the name was set: %v, %v", failAt, d, err)
			}
			if ok, _ := dst.Has(t.Context(), root); ok {
				t.Errorf("put %d: the root is there", failAt)
			}
			dst.failAt = 0
			if err := exporter.To(dst, "name").Export(t.Context(), src, root); err != nil {
				t.Errorf("put %d: going on: %v", failAt, err)
			}
		}
	}
}

// known is a source that knows where else its blobs are.
type known struct {
	*cachetest.Memory
	origins []string
}

func (k known) Origins(digest.Digest) []string { return k.origins }

func TestCopyMounts(t *testing.T) {
	src := known{cachetest.NewMemory(), []string{"reg.example/gone", "reg.example/base"}}
	root := cachetest.Image(t, src, amd64, 1, 3, 1000)
	dst := &watched{Memory: cachetest.NewMemory(), t: t, mounts: map[string]bool{"reg.example/base": true}}
	if err := exporter.Copy(t.Context(), dst, src, root, exporter.CopyOptions{Jobs: 1}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]digest.Digest{root.Digest}, dst.puts); diff != "" {
		t.Errorf("sent in spite of mounts, only the manifest should be: %s", diff)
	}
	if diff := cmp.Diff([]string{"reg.example/gone", "reg.example/base"}, dst.tried[:2]); diff != "" {
		t.Errorf("tried: %s", diff)
	}

	dst = &watched{Memory: cachetest.NewMemory(), t: t}
	if err := exporter.Copy(t.Context(), dst, src, root, exporter.CopyOptions{}); err != nil {
		t.Fatalf("mounts refused: %v", err)
	}
	if len(dst.puts) != 5 {
		t.Errorf("%d blobs were sent, want all 5", len(dst.puts))
	}
}

func TestCopyForeignLayer(t *testing.T) {
	src := cachetest.NewMemory()
	elsewhere := cachetest.Describe("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("not here"))
	config := cachetest.PutJSON(t, src, ocispec.MediaTypeImageConfig, ocispec.Image{Platform: amd64})
	manifest := ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{elsewhere}}

	root := cachetest.PutJSON(t, src, ocispec.MediaTypeImageManifest, manifest)
	if err := exporter.Copy(t.Context(), cachetest.NewMemory(), src, root, exporter.CopyOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is nowhere: %v, want fs.ErrNotExist", err)
	}
	manifest.Layers[0].URLs = []string{"https://example.com/layer"}
	root = cachetest.PutJSON(t, src, ocispec.MediaTypeImageManifest, manifest)
	if err := exporter.Copy(t.Context(), cachetest.NewMemory(), src, root, exporter.CopyOptions{}); err != nil {
		t.Errorf("a layer that stays elsewhere: %v", err)
	}
}

func TestCopyOfDamagedSource(t *testing.T) {
	src := cachetest.NewMemory()
	root := cachetest.Image(t, src, amd64, 1, 1, 1000)
	dst := cachetest.NewMemory()
	err := exporter.To(dst, "name").Export(t.Context(), damaged{src}, root)
	var corrupt *cache.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("error %v, want a *cache.CorruptError", err)
	}
	if ok, _ := dst.Has(t.Context(), root); ok {
		t.Error("the root is there")
	}
}

// damaged flips a bit of every layer.
type damaged struct{ *cachetest.Memory }

func (b damaged) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := b.Memory.Open(ctx, d)
	if err != nil || d.MediaType != ocispec.MediaTypeImageLayerGzip {
		return r, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	data[len(data)/2] ^= 1
	pr, pw := io.Pipe()
	go func() {
		_, err := pw.Write(data)
		pw.CloseWithError(err)
	}()
	return pr, nil
}

// impatient is a destination that reads a part of each layer before it gets the
// rest, as after a broken connection.
type impatient struct{ *cachetest.Memory }

func (b impatient) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if again, ok := r.(io.Seeker); ok && d.Size > 100 {
		if _, err := io.CopyN(io.Discard, r, 100); err != nil {
			return err
		}
		if n, err := again.Seek(0, io.SeekCurrent); err != nil || n != 100 {
			return fmt.Errorf("after 100 bytes: at %d, %v", n, err)
		}
		if n, err := again.Seek(0, io.SeekStart); err != nil || n != 0 {
			return fmt.Errorf("going back: at %d, %v", n, err)
		}
	}
	return b.Memory.Put(ctx, d, r)
}

func TestCopyStartsAgain(t *testing.T) {
	src := cachetest.NewMemory()
	root := cachetest.Image(t, src, amd64, 1, 2, 1000)
	dst := impatient{cachetest.NewMemory()}
	if err := exporter.Copy(t.Context(), dst, src, root, exporter.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(src.Digests(), dst.Digests()); diff != "" {
		t.Errorf("what was copied: %s", diff)
	}
}
