package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/exporter"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
)

// example is a store with an image for one platform and an index for two.
func example(t testing.TB) (*cachetest.Memory, []Image) {
	b := cachetest.NewMemory()
	single := cachetest.Image(t, b, amd64, 1, 2, 5000)
	index := cachetest.ImageIndex(t, b, cachetest.Image(t, b, arm64, 3, 1, 100), cachetest.Image(t, b, amd64, 2, 2, 100))
	return b, []Image{
		{Root: single, Names: []string{"docker.io/library/app:1", "reg.example:5000/team/app:latest"}},
		{Root: index, Names: []string{"docker.io/someone/both:latest"}},
	}
}

// write returns what Write writes.
func write(t testing.TB, src cache.Blobs, images []Image, opt Options) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(t.Context(), &buf, src, images, opt); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func save(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func open(t testing.TB, name string) *Archive {
	t.Helper()
	a, err := Open(name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestRoundTrip(t *testing.T) {
	src, images := example(t)
	plain := write(t, src, images, Options{})
	docker := write(t, src, images, Options{Docker: true, Platform: amd64})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(docker); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(t.TempDir(), "new", "layout")
	if err := WriteLayout(t.Context(), layout, src, images, exporter.CopyOptions{}); err != nil {
		t.Fatal(err)
	}

	for name, file := range map[string]string{
		"oci":        save(t, "oci.tar", plain),
		"docker":     save(t, "docker.tar", docker),
		"compressed": save(t, "docker.tgz", zipped.Bytes()),
		"layout":     layout,
	} {
		t.Run(name, func(t *testing.T) { checkExample(t, open(t, file), src, images) })
	}
	t.Run("stream", func(t *testing.T) {
		tmp := t.TempDir()
		a, err := Read(io.MultiReader(&zipped), tmp)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		checkExample(t, a, src, images)
		if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
			t.Errorf("temporary files in sight: %v, %v", left, err)
		}
	})
}

// checkExample reads everything of the example from a.
func checkExample(t *testing.T, a *Archive, src *cachetest.Memory, images []Image) {
	t.Helper()
	got := a.Images()
	if len(got) != len(images) {
		t.Fatalf("%d images, want %d", len(got), len(images))
	}
	for i, img := range images {
		if diff := cmp.Diff(img.Names, got[i].Names); diff != "" {
			t.Errorf("names: %s", diff)
		}
		dst := cachetest.NewMemory()
		if err := exporter.To(dst, img.Names...).Export(t.Context(), a, got[i].Root); err != nil {
			t.Errorf("copy out: %v", err)
		}
		for _, name := range slices.Concat(img.Names, []string{familiar(img.Names[0]), tagOf(img.Names[0]), img.Root.Digest.String()}) {
			if name == "latest" {
				continue // the first of several
			}
			if d, err := a.Resolve(t.Context(), name); err != nil || d.Digest != img.Root.Digest || d.Size != img.Root.Size {
				t.Errorf("Resolve(%s) = %v, %v", name, d, err)
			}
		}
	}
	if _, err := a.Resolve(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve of no name among several images: %v", err)
	}
	if err := a.Put(t.Context(), images[0].Root, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Put = %v", err)
	}
	if err := a.Tag(t.Context(), "x", images[0].Root); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Tag = %v", err)
	}
	absent := cachetest.Describe("", []byte("absent"))
	if ok, err := a.Has(t.Context(), absent); ok || err != nil {
		t.Errorf("Has of an absent blob = %v, %v", ok, err)
	}
	if _, err := a.Open(t.Context(), absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an absent blob: %v", err)
	}
	nested := ocispec.Descriptor{}
	if children, err := exporter.Children(t.Context(), src, images[1].Root); err == nil {
		nested = children[0]
	}
	if d, err := a.Resolve(t.Context(), nested.Digest.String()); err != nil || d.Digest != nested.Digest {
		t.Errorf("Resolve of a manifest inside an index = %v, %v", d, err)
	}
}

func TestResolveError(t *testing.T) {
	src, images := example(t)
	a := open(t, save(t, "a.tar", write(t, src, images, Options{})))
	_, err := a.Resolve(t.Context(), "other")
	want := `image "other": file does not exist in the archive, which has docker.io/library/app:1, reg.example:5000/team/app:latest, docker.io/someone/both:latest`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
	a = open(t, save(t, "b.tar", write(t, src, []Image{{Root: images[0].Root}}, Options{})))
	if d, err := a.Resolve(t.Context(), ""); err != nil || d.Digest != images[0].Root.Digest {
		t.Errorf("the only image, which has no name: %v, %v", d, err)
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	src, images := example(t)
	for _, opt := range []Options{{}, {Docker: true, Platform: arm64}} {
		first := write(t, src, images, opt)
		if !bytes.Equal(first, write(t, src, images, opt)) {
			t.Errorf("%+v: two archives of the same images differ", opt)
		}
		r := tar.NewReader(bytes.NewReader(first))
		seen := map[string]bool{}
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Format != tar.FormatUSTAR || seen[h.Name] {
				t.Errorf("header %+v", h)
			}
			seen[h.Name] = true
		}
		if seen[manifestFile] != opt.Docker {
			t.Errorf("%s is there: %v", manifestFile, seen[manifestFile])
		}
	}
}

func TestWriteForMissingPlatform(t *testing.T) {
	src, images := example(t)
	err := Write(t.Context(), io.Discard, src, images[1:], Options{Docker: true, Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	if err == nil || !strings.Contains(err.Error(), "only for linux/arm64, linux/amd64") {
		t.Errorf("error %v", err)
	}
}

func TestWriteStopsWithItsWriter(t *testing.T) {
	src, images := example(t)
	whole := len(write(t, src, images, Options{Docker: true, Platform: amd64}))
	full := errors.New("no space")
	for limit := 0; limit < whole; limit += 512 {
		w := &limitedWriter{left: limit, err: full}
		if err := Write(t.Context(), w, src, images, Options{Docker: true, Platform: amd64}); !errors.Is(err, full) {
			t.Fatalf("after %d of %d bytes: %v, want the writer's error", limit, whole, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	opt := Options{Progress: func(ocispec.Descriptor, int64) { cancel() }}
	if err := Write(ctx, io.Discard, src, images, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

type limitedWriter struct {
	left int
	err  error
}

func (w *limitedWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		return 0, w.err
	}
	w.left -= len(b)
	return len(b), nil
}

// zeros is a source with one more blob, of zeros.
type zeros struct {
	*cachetest.Memory
	d ocispec.Descriptor
}

func (z zeros) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest != z.d.Digest {
		return z.Memory.Open(ctx, d)
	}
	return io.NopCloser(io.LimitReader(zeroReader{}, d.Size)), nil
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestWriteHoldsNoBlob(t *testing.T) {
	const size = 256 << 20
	b := cachetest.NewMemory()
	src := zeros{b, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("zeros"), Size: size}}
	config := cachetest.PutJSON(t, b, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: amd64, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{src.d.Digest}},
	})
	root := cachetest.PutJSON(t, b, ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{src.d}})

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Write(t.Context(), io.Discard, src, []Image{{Root: root}}, Options{Docker: true}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes of memory for a blob of %d", used, size)
	}
}

func TestWriteLayoutAgain(t *testing.T) {
	src, images := example(t)
	dir := t.TempDir()
	add := func(images ...Image) {
		t.Helper()
		if err := WriteLayout(t.Context(), dir, src, images, exporter.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	first, second := images[0].Root, images[1].Root
	add(Image{Root: first})
	add(Image{Root: first})
	add(Image{Root: first, Names: []string{"docker.io/library/app:1"}})
	add(Image{Root: second, Names: []string{"docker.io/library/app:1"}}) // takes the name
	add(Image{Root: first, Names: []string{"docker.io/library/other:1"}})

	a := open(t, dir)
	want := []Image{
		{Root: second, Names: []string{"docker.io/library/app:1"}},
		{Root: first, Names: []string{"docker.io/library/other:1"}},
	}
	if diff := cmp.Diff(want, a.Images()); diff != "" {
		t.Error(diff)
	}
	var left []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if strings.Contains(path, ".tmp") {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWriteLayoutFailing(t *testing.T) {
	src, images := example(t)
	layers, err := exporter.Children(t.Context(), src, images[0].Root)
	if err != nil {
		t.Fatal(err)
	}
	src.Remove(layers[2].Digest)
	dir := t.TempDir()
	if err := WriteLayout(t.Context(), dir, src, images[:1], exporter.CopyOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("index.json names an incomplete image: %v", err)
	}
}

func TestLayoutStaysInside(t *testing.T) {
	src, images := example(t)
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	if err := WriteLayout(t.Context(), dir, src, images, exporter.CopyOptions{}); err == nil {
		t.Error("wrote through a link that leads out of the layout")
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) > 0 {
		t.Errorf("outside the layout: %v, %v", found, err)
	}
}

func TestOpenOfDamaged(t *testing.T) {
	src, images := example(t)
	whole := write(t, src, images[:1], Options{})
	i := bytes.Index(whole, []byte("\x1f\x8b")) // the first layer
	flipped := bytes.Clone(whole)
	flipped[i+200] ^= 1
	a := open(t, save(t, "a.tar", flipped))
	var corrupt *cache.CorruptError
	if err := exporter.Copy(t.Context(), cachetest.NewMemory(), a, a.Images()[0].Root, exporter.CopyOptions{}); !errors.As(err, &corrupt) {
		t.Errorf("a flipped bit: %v, want a *cache.CorruptError", err)
	}
	if a, err := Open(save(t, "b.tar", whole[:len(whole)/2]), t.TempDir()); err == nil {
		err = exporter.Copy(t.Context(), cachetest.NewMemory(), a, a.Images()[0].Root, exporter.CopyOptions{})
		if err == nil {
			t.Error("half an archive was copied whole")
		}
		a.Close()
	}
}

func TestOpenOfSomethingElse(t *testing.T) {
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"rootfs.tar", cachetest.Tar(t, "etc/passwd", []byte("root")), "it is no archive of images: it has neither index.json nor manifest.json"},
		{"text", bytes.Repeat([]byte("hello "), 200), "archive/tar: invalid tar header"},
		{"list.tar", cachetest.Tar(t, "manifest.json", []byte(`[{"Config":"config.json","Layers":[]}]`)), "the archive is incomplete: open config.json: file does not exist"},
		{"broken.tar", cachetest.Tar(t, "manifest.json", []byte(`{`)), "manifest.json: unexpected end of JSON input"},
	} {
		file := save(t, tc.name, tc.data)
		_, err := Open(file, t.TempDir())
		if want := fmt.Sprintf("read %s: %s", file, tc.want); err == nil || err.Error() != want {
			t.Errorf("error %v\nwant %s", err, want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, tc := range []struct{ name, familiar, tag string }{
		{"docker.io/library/app:1", "app:1", "1"},
		{"docker.io/someone/app:latest", "someone/app:latest", "latest"},
		{"reg.example:5000/app:v1.2", "reg.example:5000/app:v1.2", "v1.2"},
		{"reg.example:5000/app", "reg.example:5000/app", "reg.example:5000/app"},
		{"docker.io/library/app@sha256:abc", "app@sha256:abc", "docker.io/library/app@sha256:abc"},
	} {
		if got := familiar(tc.name); got != tc.familiar {
			t.Errorf("familiar(%s) = %s, want %s", tc.name, got, tc.familiar)
		}
		if got := tagOf(tc.name); got != tc.tag {
			t.Errorf("tagOf(%s) = %s, want %s", tc.name, got, tc.tag)
		}
	}
}
