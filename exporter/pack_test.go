package exporter_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func newPool(t testing.TB) *layer.Pool {
	t.Helper()
	tmp := t.TempDir()
	pool, err := layer.OpenPool(t.TempDir(), func() (string, error) { return tmp, nil })
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// addLayer makes a layer of files of size bytes each.
func addLayer(t testing.TB, pool *layer.Pool, id snapshot.ID, when time.Time, files, size int) snapshot.Layer {
	t.Helper()
	d, err := pool.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Mkdir(".", snapshot.Entry{Kind: snapshot.Dir, Mode: 0o755, ModTime: when}); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		e := snapshot.Entry{Mode: 0o644, ModTime: when}
		if err := d.File(fmt.Sprintf("%s-%d", id, i), e, bytes.NewReader(mixed(uint64(i), size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Commit(id); err != nil {
		t.Fatal(err)
	}
	return snapshot.Layer{ID: id}
}

// mixed returns bytes of which a part compresses, as in most files.
func mixed(seed uint64, size int) []byte {
	data := cachetest.Bytes(seed, size)
	for i := range data {
		if i/512%2 == 0 {
			data[i] %= 8
		}
	}
	return data
}

func output(p ocispec.Platform, layers ...snapshot.Layer) exporter.Output {
	return exporter.Output{Platform: p, Config: config(p), Layers: layers}
}

func config(p ocispec.Platform) dockerspec.DockerOCIImage {
	return dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: p}}
}

func pack(t testing.TB, pool *layer.Pool, store exporter.Store, opt exporter.PackOptions, outs ...exporter.Output) exporter.Image {
	t.Helper()
	root, err := exporter.Pack(t.Context(), outs, pool, store, opt)
	if err != nil {
		t.Fatal(err)
	}
	img, err := exporter.ReadImage(t.Context(), store, root, outs[0].Platform)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func blobBytes(t testing.TB, store exporter.Store, d ocispec.Descriptor) []byte {
	t.Helper()
	r, err := store.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var when = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func TestPackCompressions(t *testing.T) {
	pool := newPool(t)
	own := addLayer(t, pool, "own", when, 3, 100<<10)
	level9 := 9
	var diffID digest.Digest
	for _, tc := range []struct {
		opt       exporter.PackOptions
		mediaType string
		form      string
		open      func(io.Reader) (io.Reader, error)
	}{
		{exporter.PackOptions{}, ocispec.MediaTypeImageLayerGzip, "gzip-5", gunzip},
		{exporter.PackOptions{Compression: exporter.Gzip, Level: &level9}, ocispec.MediaTypeImageLayerGzip, "gzip-9", gunzip},
		{exporter.PackOptions{Compression: exporter.Zstd}, ocispec.MediaTypeImageLayerZstd, "zstd-3", unzstd},
		{exporter.PackOptions{Compression: exporter.Uncompressed}, ocispec.MediaTypeImageLayer, "uncompressed", plain},
		{exporter.PackOptions{DockerTypes: true}, "application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip-5", gunzip},
	} {
		store := cachetest.NewMemory()
		img := pack(t, pool, store, tc.opt, output(amd64, own))
		l := img.Layers[0]
		if l.Blob.MediaType != tc.mediaType {
			t.Errorf("%s: media type %s, want %s", tc.form, l.Blob.MediaType, tc.mediaType)
		}
		r, err := tc.open(bytes.NewReader(blobBytes(t, store, *l.Blob)))
		if err != nil {
			t.Fatalf("%s: %v", tc.form, err)
		}
		archive, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", tc.form, err)
		}
		if got := digest.FromBytes(archive); got != l.DiffID {
			t.Errorf("%s: the archive is %s, the config says %s", tc.form, got, l.DiffID)
		}
		if diffID != "" && l.DiffID != diffID {
			t.Errorf("%s: diff ID %s, before %s", tc.form, l.DiffID, diffID)
		}
		diffID = l.DiffID

		dir, err := pool.Open("own")
		if err != nil {
			t.Fatal(err)
		}
		info, err := dir.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.DiffID != diffID || info.Size != int64(len(archive)) || info.Packed[tc.form].Blob.Digest != l.Blob.Digest {
			t.Errorf("%s: the memo is %+v", tc.form, info)
		}
	}
	if id, err := pool.Find(diffID); err != nil || id != "own" {
		t.Errorf("Find by diff ID = %s, %v", id, err)
	}
}

func gunzip(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
func plain(r io.Reader) (io.Reader, error)  { return r, nil }
func unzstd(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }

func TestPackIsDeterministic(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(cores)
	pool := newPool(t)
	own := addLayer(t, pool, "own", when, 2, 1<<20+12345)
	for _, compression := range []exporter.Compression{exporter.Gzip, exporter.Zstd, exporter.Uncompressed} {
		var want digest.Digest
		for _, n := range []int{1, 2, 4} {
			runtime.GOMAXPROCS(n)
			// A new store each time: the memo's blob is gone, so the work is done again.
			store := &counting{Memory: cachetest.NewMemory()}
			got := pack(t, pool, store, exporter.PackOptions{Compression: compression}, output(amd64, own)).Manifest.Digest
			if store.layers != 1 {
				t.Fatalf("%s: %d layers were packed, want 1", compression, store.layers)
			}
			if want != "" && got != want {
				t.Errorf("%s with %d cores: %s, with fewer %s", compression, n, got, want)
			}
			want = got
		}
	}
}

func TestPackGzipHeader(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	img := pack(t, pool, store, exporter.PackOptions{}, output(amd64, addLayer(t, pool, "own", when, 1, 10)))
	head := blobBytes(t, store, *img.Layers[0].Blob)[:10]
	if want := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}; !bytes.Equal(head, want) {
		t.Errorf("header % x, want % x", head, want)
	}
}

func TestPackRemembers(t *testing.T) {
	pool, store := newPool(t), &counting{Memory: cachetest.NewMemory()}
	own := addLayer(t, pool, "own", when, 1, 1000)
	first := pack(t, pool, store, exporter.PackOptions{}, output(amd64, own))
	if store.layers != 1 {
		t.Fatalf("%d layers were packed, want 1", store.layers)
	}
	again := pack(t, pool, store, exporter.PackOptions{}, output(amd64, own))
	if store.layers != 1 {
		t.Errorf("a packed layer was packed again")
	}
	if first.Manifest.Digest != again.Manifest.Digest {
		t.Errorf("equal inputs gave %s and %s", first.Manifest.Digest, again.Manifest.Digest)
	}
	// By its diff ID alone, as a layer is known to another build.
	pack(t, pool, store, exporter.PackOptions{}, output(amd64, snapshot.Layer{DiffID: first.Layers[0].DiffID}))
	if store.layers != 1 {
		t.Errorf("a layer known by its diff ID was packed again")
	}
	store.Remove(first.Layers[0].Blob.Digest)
	pack(t, pool, store, exporter.PackOptions{}, output(amd64, own))
	if store.layers != 2 {
		t.Errorf("a blob that left the store was not made again")
	}
}

// counting counts the layers that are packed.
type counting struct {
	*cachetest.Memory
	mu     sync.Mutex
	layers int
}

func (c *counting) Ingest(ctx context.Context, mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	if strings.Contains(mediaType, ".layer.") {
		c.mu.Lock()
		c.layers++
		c.mu.Unlock()
	}
	return c.Memory.Ingest(ctx, mediaType, r)
}

func TestPackEmptyLayer(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	d, err := pool.Draft()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit("empty"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []exporter.Compression{exporter.Gzip, exporter.Zstd, exporter.Uncompressed} {
		img := pack(t, pool, store, exporter.PackOptions{Compression: c}, output(amd64, snapshot.Layer{ID: "empty"}))
		// The digest of 1024 zeros, which everyone's empty layers have.
		if want := digest.Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"); img.Layers[0].DiffID != want {
			t.Errorf("%s: diff ID %s, want %s", c, img.Layers[0].DiffID, want)
		}
	}
	img := pack(t, pool, store, exporter.PackOptions{}, output(amd64)) // FROM scratch and nothing
	if len(img.Layers) != 0 {
		t.Errorf("layers %+v", img.Layers)
	}
	if data := blobBytes(t, store, img.ConfigDesc); !strings.Contains(string(data), `"rootfs":{"type":"layers","diff_ids":[]}`) {
		t.Errorf("config %s", data)
	}
}

func TestPackEpoch(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	own := addLayer(t, pool, "own", when, 1, 100)
	unclamped := pack(t, pool, store, exporter.PackOptions{Compression: exporter.Uncompressed}, output(amd64, own))
	epoch := when.Add(-time.Hour)
	clamped := pack(t, pool, store, exporter.PackOptions{Compression: exporter.Uncompressed, Epoch: &epoch}, output(amd64, own))
	if clamped.Layers[0].DiffID == unclamped.Layers[0].DiffID {
		t.Fatal("the epoch changed nothing")
	}
	r := tar.NewReader(bytes.NewReader(blobBytes(t, store, *clamped.Layers[0].Blob)))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) {
			t.Errorf("%s: %v, want %v", h.Name, h.ModTime, epoch)
		}
	}
	dir, err := pool.Open("own")
	if err != nil {
		t.Fatal(err)
	}
	info, err := dir.Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.DiffID != unclamped.Layers[0].DiffID {
		t.Errorf("the layer's diff ID became %s", info.DiffID)
	}
	if _, ok := info.Packed[fmt.Sprintf("uncompressed@%d", epoch.Unix())]; !ok || len(info.Packed) != 2 {
		t.Errorf("the memo is %+v", info.Packed)
	}
}

// TestPackAllTimes gives files older than the epoch its time as well.
func TestPackAllTimes(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	own := addLayer(t, pool, "own", when, 1, 100)
	epoch := when.Add(time.Hour)
	opt := exporter.PackOptions{Compression: exporter.Uncompressed, Epoch: &epoch, AllTimes: true}
	img := pack(t, pool, store, opt, output(amd64, own))
	h, err := tar.NewReader(bytes.NewReader(blobBytes(t, store, *img.Layers[0].Blob))).Next()
	if err != nil || !h.ModTime.Equal(epoch) {
		t.Errorf("%+v, %v, want the time %v", h, err, epoch)
	}
	opt.AllTimes = false
	if clamped := pack(t, pool, store, opt, output(amd64, own)); clamped.Layers[0].DiffID == img.Layers[0].DiffID {
		t.Error("one form was taken for the other")
	}
}

func TestPackOmitsHistory(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	out := output(amd64, addLayer(t, pool, "own", when, 1, 100))
	out.OmitHistory = true
	if img := pack(t, pool, store, exporter.PackOptions{}, out); len(img.Config.History) > 0 {
		t.Errorf("history %+v", img.Config.History)
	}
}

func TestPackKeepsLayersOfImages(t *testing.T) {
	pool, store := newPool(t), &counting{Memory: cachetest.NewMemory()}
	base, err := exporter.ReadImage(t.Context(), store, cachetest.Image(t, store, amd64, 1, 2, 1000), amd64)
	if err != nil {
		t.Fatal(err)
	}
	// The lowest need not even be here, and carries annotations of stores and its own.
	blob := *base.Layers[0].Blob
	blob.Annotations = map[string]string{
		"containerd.io/uncompressed":                  "x",
		"containerd.io/distribution.source.docker.io": "library/debian",
		"containerd.io/snapshot/stargz/toc.digest":    "kept",
		"buildkit/createdat":                          "x",
	}
	store.Remove(blob.Digest)
	layers := []snapshot.Layer{{DiffID: base.Layers[0].DiffID, Blob: &blob}, base.Layers[1], addLayer(t, pool, "own", when, 1, 10)}

	img := pack(t, pool, store, exporter.PackOptions{Compression: exporter.Zstd}, output(amd64, layers...))
	if store.layers != 1 {
		t.Errorf("%d layers were packed, want only the new one", store.layers)
	}
	if diff := cmp.Diff(map[string]string{"containerd.io/snapshot/stargz/toc.digest": "kept"}, img.Layers[0].Blob.Annotations); diff != "" {
		t.Errorf("annotations: %s", diff)
	}
	for i := range 2 {
		if got := img.Layers[i].Blob; got.Digest != base.Layers[i].Blob.Digest || got.MediaType != ocispec.MediaTypeImageLayerGzip {
			t.Errorf("layer %d became %+v", i, got)
		}
	}
	docker := pack(t, pool, store, exporter.PackOptions{DockerTypes: true}, output(amd64, layers...))
	for i, l := range docker.Layers {
		if l.Blob.MediaType != "application/vnd.docker.image.rootfs.diff.tar.gzip" || l.Blob.Annotations != nil {
			t.Errorf("layer %d for docker: %+v", i, l.Blob)
		}
	}
	if docker.Manifest.MediaType != dockerManifestType || docker.ConfigDesc.MediaType != dockerConfigType {
		t.Errorf("manifest %s, config %s", docker.Manifest.MediaType, docker.ConfigDesc.MediaType)
	}
}

func TestPackForce(t *testing.T) {
	pool, store := newPool(t), &counting{Memory: cachetest.NewMemory()}
	base, err := exporter.ReadImage(t.Context(), store, cachetest.Image(t, store, amd64, 1, 2, 1000), amd64)
	if err != nil {
		t.Fatal(err)
	}
	force := exporter.PackOptions{Compression: exporter.Zstd, Force: true}
	img := pack(t, pool, store, force, output(amd64, base.Layers...))
	for i, l := range img.Layers {
		if l.DiffID != base.Layers[i].DiffID || l.Blob.MediaType != ocispec.MediaTypeImageLayerZstd {
			t.Errorf("layer %d: %+v", i, l)
		}
		r, err := unzstd(bytes.NewReader(blobBytes(t, store, *l.Blob)))
		if err != nil {
			t.Fatal(err)
		}
		if archive, err := io.ReadAll(r); err != nil || digest.FromBytes(archive) != l.DiffID {
			t.Errorf("layer %d: %d bytes, %v", i, len(archive), err)
		}
	}
	store.layers = 0
	same := pack(t, pool, store, exporter.PackOptions{Force: true}, output(amd64, base.Layers...))
	if store.layers != 0 || same.Layers[0].Blob.Digest != base.Layers[0].Blob.Digest {
		t.Error("layers that have the wanted compression were compressed again")
	}

	lying := snapshot.Layer{DiffID: base.Layers[1].DiffID, Blob: base.Layers[0].Blob}
	_, err = exporter.Pack(t.Context(), []exporter.Output{output(amd64, lying)}, pool, store, force)
	if err == nil || !strings.Contains(err.Error(), "as its image says") {
		t.Errorf("a layer that is not what its image says: %v", err)
	}
}

func TestPackForceRemembers(t *testing.T) {
	pool, store := newPool(t), &counting{Memory: cachetest.NewMemory()}
	packed := pack(t, pool, store, exporter.PackOptions{}, output(amd64, addLayer(t, pool, "own", when, 1, 1000)))
	force := exporter.PackOptions{Compression: exporter.Zstd, Force: true}
	for range 2 {
		pack(t, pool, store, force, output(amd64, packed.Layers...)) // unpacked here, by its diff ID
	}
	if store.layers != 2 {
		t.Errorf("%d layers were packed, want one as gzip and one as zstd", store.layers)
	}
}

func TestPackIndex(t *testing.T) {
	pool, store := newPool(t), &counting{Memory: cachetest.NewMemory()}
	shared := addLayer(t, pool, "shared", when, 1, 100)
	one, two := output(amd64, shared), output(ocispec.Platform{}, shared, addLayer(t, pool, "own", when, 1, 10))
	one.Annotations = map[string]string{"org.example.a": "manifest"}
	one.DescriptorAnnotations = map[string]string{"org.example.b": "descriptor"}
	two.Config = config(arm64) // from where the platform is taken
	root, err := exporter.Pack(t.Context(), []exporter.Output{one, two}, pool, store, exporter.PackOptions{
		IndexAnnotations: map[string]string{"org.example.c": "index"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if store.layers != 2 {
		t.Errorf("%d layers were packed, want 2", store.layers)
	}
	var index ocispec.Index
	if err := json.Unmarshal(blobBytes(t, store, root), &index); err != nil {
		t.Fatal(err)
	}
	if root.MediaType != ocispec.MediaTypeImageIndex || index.MediaType != root.MediaType || index.SchemaVersion != 2 {
		t.Errorf("root %+v, index %+v", root, index)
	}
	if diff := cmp.Diff(map[string]string{"org.example.c": "index"}, index.Annotations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(one.DescriptorAnnotations, index.Manifests[0].Annotations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]ocispec.Platform{amd64, arm64}, []ocispec.Platform{*index.Manifests[0].Platform, *index.Manifests[1].Platform}); diff != "" {
		t.Error(diff)
	}
	img, err := exporter.ReadImage(t.Context(), store, root, amd64)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(one.Annotations, img.Annotations); diff != "" {
		t.Error(diff)
	}
}

func TestPackRefuses(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	own := addLayer(t, pool, "own", when, 1, 10)
	ten, many := 10, 23
	for _, tc := range []struct {
		outs []exporter.Output
		opt  exporter.PackOptions
		want string
	}{
		{nil, exporter.PackOptions{}, "pack: nothing to pack"},
		{[]exporter.Output{output(amd64)}, exporter.PackOptions{Compression: "lzma"}, `unknown compression "lzma": use gzip, zstd or uncompressed`},
		{[]exporter.Output{output(amd64)}, exporter.PackOptions{Level: &ten}, "compression level 10 of gzip is not from 0 to 9"},
		{[]exporter.Output{output(amd64)}, exporter.PackOptions{Compression: "zstd", Level: &many}, "compression level 23 of zstd is not from 0 to 22"},
		{[]exporter.Output{output(amd64)}, exporter.PackOptions{Compression: "uncompressed", Level: &ten}, "what is not compressed has no compression level"},
		{[]exporter.Output{output(amd64)}, exporter.PackOptions{Compression: "estargz"}, "compression estargz is not supported: gzip and zstd are what every registry and engine reads"},
		{[]exporter.Output{output(amd64)}, exporter.PackOptions{Compression: "zstd", DockerTypes: true}, "pack: docker's media types know no zstd: use OCI's, or gzip"},
		{
			[]exporter.Output{output(amd64)}, exporter.PackOptions{IndexAnnotations: map[string]string{"a": "b"}},
			"pack: an image of a single platform has no index to annotate",
		}, {
			[]exporter.Output{output(amd64), output(arm64)}, exporter.PackOptions{DockerTypes: true, IndexAnnotations: map[string]string{"a": "b"}},
			"pack: docker's media types have no annotations on an index: use OCI's",
		},
		{[]exporter.Output{output(amd64, snapshot.Layer{})}, exporter.PackOptions{}, "pack layer: it has neither an ID nor a diff ID"},
		{[]exporter.Output{{Platform: amd64, Layers: []snapshot.Layer{own}}}, exporter.PackOptions{}, "pack image for linux/amd64: the config has no operating system or no architecture"},
	} {
		_, err := exporter.Pack(t.Context(), tc.outs, pool, store, tc.opt)
		if err == nil || err.Error() != tc.want {
			t.Errorf("error %v\nwant %s", err, tc.want)
		}
	}
	_, err := exporter.Pack(t.Context(), []exporter.Output{output(amd64, snapshot.Layer{ID: "gone"})}, pool, store, exporter.PackOptions{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is not there: %v", err)
	}
}

// failing is a store that breaks after some bytes of a layer.
type failing struct {
	*cachetest.Memory
	after int64
	err   error
	then  func()
}

func (f failing) Ingest(_ context.Context, _ string, r io.Reader) (ocispec.Descriptor, error) {
	if _, err := io.CopyN(io.Discard, r, f.after); err != nil {
		return ocispec.Descriptor{}, err
	}
	if f.then != nil {
		f.then()
		_, err := io.Copy(io.Discard, r)
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{}, f.err
}

// TestPackFails runs in bubbles, which do not end before every goroutine in them
// has, and panic if one never will.
func TestPackFails(t *testing.T) {
	pool := newPool(t)
	own := addLayer(t, pool, "own", when, 2, 1<<20)
	full := errors.New("no space")
	for _, c := range []exporter.Compression{exporter.Gzip, exporter.Zstd, exporter.Uncompressed} {
		opt := exporter.PackOptions{Compression: c}
		for _, after := range []int64{0, 1, 1 << 18} {
			synctest.Test(t, func(t *testing.T) {
				store := failing{Memory: cachetest.NewMemory(), after: after, err: full}
				if _, err := exporter.Pack(t.Context(), []exporter.Output{output(amd64, own)}, pool, store, opt); !errors.Is(err, full) {
					t.Errorf("%s, full after %d bytes: %v", c, after, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				store.then = cancel
				if _, err := exporter.Pack(ctx, []exporter.Output{output(amd64, own)}, pool, store, opt); !errors.Is(err, context.Canceled) {
					t.Errorf("%s, canceled after %d bytes: %v", c, after, err)
				}
			})
		}
	}
	dir, err := pool.Open("own")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := dir.Info(); err != nil || len(info.Packed) != 0 {
		t.Errorf("what failed is remembered: %+v, %v", info, err)
	}
}

func TestPackProgress(t *testing.T) {
	pool, store := newPool(t), cachetest.NewMemory()
	own := addLayer(t, pool, "own", when, 2, 1<<18)
	var last int64
	opt := exporter.PackOptions{Progress: func(id snapshot.ID, done int64) {
		if id != "own" || done < last {
			t.Errorf("%s: %d after %d", id, done, last)
		}
		last = done
	}}
	pack(t, pool, store, opt, output(amd64, own))
	if last < 2<<18 {
		t.Errorf("the progress ended at %d", last)
	}
}

// discard is a store that keeps no layers.
type discard struct{ *cachetest.Memory }

func (d discard) Ingest(ctx context.Context, mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	if !strings.Contains(mediaType, ".layer.") {
		return d.Memory.Ingest(ctx, mediaType, r)
	}
	hash := digest.SHA256.Digester()
	n, err := io.Copy(hash.Hash(), r)
	return ocispec.Descriptor{MediaType: mediaType, Digest: hash.Digest(), Size: n}, err
}

func TestPackInConstantMemory(t *testing.T) {
	pool, store := newPool(t), discard{cachetest.NewMemory()}
	d, err := pool.Draft()
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	if err := d.File("holes", snapshot.Entry{Mode: 0o644}, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit("large"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []exporter.Compression{exporter.Gzip, exporter.Zstd, exporter.Uncompressed} {
		runtime.GC()
		var before, during runtime.MemStats
		runtime.ReadMemStats(&before)
		most := uint64(0)
		next := int64(0)
		opt := exporter.PackOptions{Compression: c, Progress: func(_ snapshot.ID, done int64) {
			if done < next {
				return
			}
			next = done + 8<<20
			runtime.GC()
			runtime.ReadMemStats(&during)
			most = max(most, during.HeapAlloc)
		}}
		if _, err := exporter.Pack(t.Context(), []exporter.Output{output(amd64, snapshot.Layer{ID: "large"})}, pool, store, opt); err != nil {
			t.Fatal(err)
		}
		blocks := uint64(4<<20) * uint64(runtime.GOMAXPROCS(0)) // pgzip's
		if most > before.HeapAlloc+blocks+20<<20 {
			t.Errorf("%s: %d MiB in use for a layer of %d MiB", c, (most-before.HeapAlloc)>>20, size>>20)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func BenchmarkPack(b *testing.B) {
	pool, store := newPool(b), discard{cachetest.NewMemory()}
	const files, size = 64, 1 << 20
	own := addLayer(b, pool, "own", when, files, size)
	small := addLayer(b, pool, "small", when, 4096, 4<<10)
	for name, l := range map[string]snapshot.Layer{"large": own, "small": small} {
		for _, c := range []exporter.Compression{exporter.Gzip, exporter.Zstd, exporter.Uncompressed} {
			b.Run(name+"/"+string(c), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					pack := []exporter.Output{output(amd64, l)}
					if _, err := exporter.Pack(b.Context(), pack, pool, store, exporter.PackOptions{Compression: c}); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(files * size)
			})
		}
	}
}
