package cachetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lamina/cache"
)

const blobType = "application/octet-stream"

// RunRepository checks what [cache.Repository] promises, and [cache.Ingester]
// where the repository is one. Every call of open must return an empty
// repository that takes the names "one", "two" and "latest".
func RunRepository(t *testing.T, open func() cache.Repository) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, cache.Repository)
	}{
		{"RoundTrip", testRoundTrip},
		{"Absent", testAbsent},
		{"PutRefusesOtherBytes", testPutRefusesOtherBytes},
		{"PutFailsWithItsReader", testPutFailsWithItsReader},
		{"PutTwice", testPutTwice},
		{"PutAtOnce", testPutAtOnce},
		{"OpenVerifiesSize", testOpenVerifiesSize},
		{"Names", testNames},
		{"NameOfNothing", testNameOfNothing},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open()) })
	}
	r := open()
	if in, ok := r.(cache.Ingester); ok {
		t.Run("Ingest", func(t *testing.T) { testIngest(t, r, in) })
	}
}

// contents are blobs of sizes at which buffers begin and end.
func contents() map[string][]byte {
	return map[string][]byte{
		"empty":  {},
		"byte":   {0},
		"page":   Bytes(1, 4096),
		"copy":   Bytes(2, 32<<10),
		"odd":    Bytes(3, 32<<10+1),
		"larger": Bytes(4, 3<<20+7),
	}
}

func testRoundTrip(t *testing.T, r cache.Repository) {
	for name, data := range contents() {
		d := Put(t, r, blobType, data)
		if ok, err := r.Has(t.Context(), d); err != nil || !ok {
			t.Errorf("%s: Has = %v, %v after Put", name, ok, err)
		}
		if got, err := read(t.Context(), r, d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read %d bytes, %v; want the %d bytes that were put", name, len(got), err, len(data))
		}
	}
}

func testAbsent(t *testing.T, r cache.Repository) {
	expectAbsent(t, r, Describe(blobType, []byte("never stored")))
}

func testPutRefusesOtherBytes(t *testing.T, r cache.Repository) {
	want := Bytes(5, 1000)
	d := Describe(blobType, want)
	flipped := bytes.Clone(want)
	flipped[500] ^= 1
	for name, data := range map[string][]byte{
		"flipped": flipped,
		"shorter": want[:999],
		"longer":  append(bytes.Clone(want), 0),
		"none":    {},
	} {
		if err := r.Put(t.Context(), d, bytes.NewReader(data)); err == nil {
			t.Errorf("%s: Put stored bytes that are not the descriptor's", name)
		}
		expectAbsent(t, r, d)
		expectAbsent(t, r, Describe(blobType, data))
	}
	// A failed Put must not stand in the way of a right one.
	Put(t, r, blobType, want)
}

func testPutFailsWithItsReader(t *testing.T, r cache.Repository) {
	data := Bytes(6, 100<<10)
	d := Describe(blobType, data)
	broken := errors.New("the source broke")
	err := r.Put(t.Context(), d, io.MultiReader(bytes.NewReader(data[:50<<10]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("Put = %v, want the reader's error in it", err)
	}
	expectAbsent(t, r, d)
}

func testPutTwice(t *testing.T, r cache.Repository) {
	data := Bytes(7, 10<<10)
	d := Put(t, r, blobType, data)
	Put(t, r, blobType, data)
	if got, err := read(t.Context(), r, d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

func testPutAtOnce(t *testing.T, r cache.Repository) {
	data := Bytes(8, 200<<10)
	d := Describe(blobType, data)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			if err := r.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
				return err
			}
			_, err := read(t.Context(), r, d)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func testOpenVerifiesSize(t *testing.T, r cache.Repository) {
	d := Put(t, r, blobType, Bytes(9, 1000))
	for _, size := range []int64{999, 1001} {
		wrong := d
		wrong.Size = size
		if got, err := read(t.Context(), r, wrong); err == nil {
			t.Errorf("size %d: read %d bytes of a blob of 1000 without an error", size, len(got))
		}
	}
}

func testNames(t *testing.T, r cache.Repository) {
	ctx := t.Context()
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	first := Image(t, r, p, 100, 1, 1000)
	second := Image(t, r, p, 200, 2, 1000)
	index := ImageIndex(t, r, first, second)

	for _, step := range []struct {
		name string
		root ocispec.Descriptor
	}{{"one", first}, {"two", second}, {"one", second}, {"one", second}, {"latest", index}} {
		if err := r.Tag(ctx, step.name, step.root); err != nil {
			t.Fatalf("tag %s: %v", step.name, err)
		}
		expectName(t, r, step.name, step.root)
	}
	expectName(t, r, "two", second)
	if got, err := read(ctx, r, first); err != nil || len(got) == 0 {
		t.Errorf("a manifest that lost its name: read %d bytes, %v", len(got), err)
	}
}

func testNameOfNothing(t *testing.T, r cache.Repository) {
	if d, err := r.Resolve(t.Context(), "one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve of an unknown name = %v, %v; want fs.ErrNotExist", d, err)
	}
	absent := Describe(ocispec.MediaTypeImageManifest, []byte("{}"))
	if err := r.Tag(t.Context(), "one", absent); err == nil {
		t.Error("Tag took a root that is not here")
	}
	if d, err := r.Resolve(t.Context(), "one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve after a failed Tag = %v, %v; want fs.ErrNotExist", d, err)
	}
}

func testIngest(t *testing.T, r cache.Repository, in cache.Ingester) {
	for name, data := range contents() {
		d, err := in.Ingest(t.Context(), ocispec.MediaTypeImageLayer, bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := Describe(ocispec.MediaTypeImageLayer, data); d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
			t.Errorf("%s: Ingest = %v, want %v", name, d, want)
		}
		if got, err := read(t.Context(), r, d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
	}
	broken := errors.New("the source broke")
	part := Bytes(10, 5000)
	_, err := in.Ingest(t.Context(), blobType, io.MultiReader(bytes.NewReader(part), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("Ingest = %v, want the reader's error in it", err)
	}
	expectAbsent(t, r, Describe(blobType, part))
}

// RunIndex checks what [cache.Index] promises. Every call of open must return an
// empty index.
func RunIndex(t *testing.T, open func() cache.Index) {
	k1, k2 := digest.FromString("one"), digest.FromString("two")

	t.Run("Miss", func(t *testing.T) {
		if got, err := open().Get(t.Context(), k1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get = %q, %v; want fs.ErrNotExist", got, err)
		}
	})
	t.Run("RoundTrip", func(t *testing.T) {
		for name, record := range contents() {
			x := open()
			putRecord(t, x, k1, record)
			putRecord(t, x, k2, []byte("another"))
			if got, err := x.Get(t.Context(), k1); err != nil || !bytes.Equal(got, record) {
				t.Errorf("%s: Get = %d bytes, %v; want the %d that were put", name, len(got), err, len(record))
			}
		}
	})
	t.Run("Replace", func(t *testing.T) {
		x := open()
		for _, record := range []string{"a long first record", "short", ""} {
			putRecord(t, x, k1, []byte(record))
			if got, err := x.Get(t.Context(), k1); err != nil || string(got) != record {
				t.Errorf("Get = %q, %v; want %q", got, err, record)
			}
		}
	})
	t.Run("AtOnce", func(t *testing.T) {
		x := open()
		records := [][]byte{Bytes(1, 3000), Bytes(2, 5000)}
		putRecord(t, x, k1, records[0])
		var group errgroup.Group
		for i := range 8 {
			group.Go(func() error {
				if err := x.Put(t.Context(), k1, records[i%2]); err != nil {
					return err
				}
				got, err := x.Get(t.Context(), k1)
				if err == nil && !bytes.Equal(got, records[0]) && !bytes.Equal(got, records[1]) {
					err = errors.New("Get returned a mixture")
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}

func putRecord(t *testing.T, x cache.Index, k cache.Key, record []byte) {
	t.Helper()
	if err := x.Put(t.Context(), k, record); err != nil {
		t.Fatalf("put record: %v", err)
	}
}

func expectAbsent(t *testing.T, b cache.Blobs, d ocispec.Descriptor) {
	t.Helper()
	if ok, err := b.Has(t.Context(), d); err != nil || ok {
		t.Errorf("Has = %v, %v for a blob that must not be here", ok, err)
	}
	if got, err := read(t.Context(), b, d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read %d bytes, %v of a blob that must not be here; want fs.ErrNotExist", len(got), err)
	}
}

func expectName(t *testing.T, r cache.Repository, name string, want ocispec.Descriptor) {
	t.Helper()
	got, err := r.Resolve(t.Context(), name)
	if err != nil || got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType {
		t.Errorf("Resolve(%s) = %v, %v; want %v", name, got, err, want)
	}
}

func read(ctx context.Context, b cache.Blobs, d ocispec.Descriptor) ([]byte, error) {
	r, err := b.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
