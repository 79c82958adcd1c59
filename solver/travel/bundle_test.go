package travel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// table is a table of one file, which is here.
func (f *fixture) table(name string) ocispec.Descriptor {
	f.Helper()
	var b bytes.Buffer
	w, err := fileset.NewTableWriter(&b)
	if err == nil {
		err = errors.Join(w.Add(fileset.Sum{Name: name, Mode: 0o100644, Digest: digest.FromString(name)}), w.Close())
	}
	if err != nil {
		f.Fatal(err)
	}
	d, err := f.blobs.Ingest(f.Context(), fileset.TableType, &b)
	if err != nil {
		f.Fatal(err)
	}
	return d
}

// copied is the record of a COPY of one file of the context.
func (f *fixture) copied(name string) *solver.Record {
	f.Helper()
	return f.record("copy", solver.Copy{Dest: "/" + name}, []solver.RecordedInput{
		{Name: "base", ID: digest.FromString("image")},
		{Name: "context", Read: solver.Identity{Digest: digest.FromString(name), Parts: []ocispec.Descriptor{f.table(name)}}},
	}, []snapshot.Layer{f.layer(name)})
}

// names reads the tables of a record, where the index says that they are.
func (f *fixture) names(repo cache.Blobs, c *Cache, r *solver.Record) (names []string) {
	f.Helper()
	at := map[digest.Digest]Slot{}
	x := NewIndex(c, func(d digest.Digest, in *Slot) error {
		if in != nil {
			at[d] = *in
		}
		return nil
	})
	if err := x.Learn(r); err != nil {
		f.Fatal(err)
	}
	for _, d := range parts(r) {
		origin := at[d.Digest].Origin("registry/repo")
		slot, repository, ok := ParseOrigin(origin)
		if !ok || repository != "registry/repo" || slot.At != at[d.Digest].At {
			f.Fatalf("origin %q is %v of %q", origin, slot, repository)
		}
		blob, err := slot.In(repo).Open(f.Context(), d)
		if err != nil {
			f.Fatal(err)
		}
		for s, err := range fileset.ReadTable(blob) {
			if err != nil {
				f.Fatal(err)
			}
			names = append(names, s.Name)
		}
		blob.Close()
	}
	return names
}

// What steps read travels as one blob of each write, which nobody fetches to look
// a step up.
func TestTablesTravel(t *testing.T) {
	f := newFixture(t)
	repo := &opened{Memory: cachetest.NewMemory()}
	write := func(want int, records ...*solver.Record) {
		t.Helper()
		before := len(repo.Digests())
		if _, err := Write(t.Context(), repo, "cache", f.blobs, f.pack(records...), Options{Alone: true}); err != nil {
			t.Fatal(err)
		}
		if n := len(repo.Digests()) - before; n != want {
			t.Errorf("%d blobs more, want %d", n, want)
		}
	}
	a, b, c := f.copied("a"), f.copied("b"), f.copied("c")
	write(2+1+2, a, b) // layers, a bundle, records and manifest
	write(1+1+2, a, c)
	repo.blobs = nil
	got, err := Read(t.Context(), repo, "cache")
	if err != nil {
		t.Fatal(err)
	}
	if n := slices.Index(repo.blobs, BundleType); n >= 0 {
		t.Errorf("reading the cache opens %q", repo.blobs)
	}
	for _, want := range []*solver.Record{a, b, c} {
		narrow, _ := want.Keys()
		r := f.found(got, narrow)
		if r == nil {
			t.Fatal("a step is lost")
		}
		if diff := cmp.Diff([]string{want.Inputs[1].Read.Digest.String()}, digests(f.names(repo, got, r))); diff != "" {
			t.Error(diff)
		}
	}
	if n := len(got.bundles()); n != 2 {
		t.Errorf("%d bundles", n)
	}
	if n := len(got.held); n != 3 {
		t.Errorf("bundles count as layers: %d", n)
	}
}

func digests(names []string) (all []string) {
	for _, n := range names {
		all = append(all, digest.FromString(n).String())
	}
	return all
}

// opened notes the types of the blobs that are opened.
type opened struct {
	*cachetest.Memory
	blobs []string
}

func (o *opened) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	o.blobs = append(o.blobs, d.MediaType)
	return o.Memory.Open(ctx, d)
}

// However many builds add tables, a cache stays within bounds, and it is the longest
// unused steps whose tables go.
func TestBundlesAreBounded(t *testing.T) {
	f := newFixture(t)
	now := time.Now()
	c := newCache()
	for i := range maxBundles + 50 {
		r := f.copied(fmt.Sprint(i))
		d := parts(r)[0]
		c.slots[d.Digest] = Slot{ocispec.Descriptor{MediaType: BundleType, Digest: digest.FromString(fmt.Sprint("bundle", i)), Size: d.Size}, 0}
		c.add(newStep(r, now.Add(-time.Duration(i)*time.Second)))
	}
	all := merge(c, f.pack(f.copied("new")), now)
	if n := len(all.bundles()); n != maxBundles-1 { // one for what is new
		t.Errorf("%d bundles", n)
	}
	if all.Steps() != maxBundles+51 {
		t.Errorf("%d steps", all.Steps())
	}
	with := func(name string) int {
		narrow, _ := f.copied(name).Keys()
		return len(parts(f.found(all, narrow)))
	}
	if with("new") != 1 || with("0") != 1 || with(fmt.Sprint(maxBundles+49)) != 0 {
		t.Error("not the longest unused went")
	}
	large := newCache()
	for i := range 10 {
		r := f.copied(fmt.Sprint(i))
		d := parts(r)[0]
		large.slots[d.Digest] = Slot{ocispec.Descriptor{MediaType: BundleType, Digest: digest.FromString(fmt.Sprint("bundle", i)), Size: maxBundle}, 0}
		large.add(newStep(r, now))
	}
	if n := len(merge(large, newCache(), now).bundles()); n != maxBundled/maxBundle {
		t.Errorf("%d bundles of the largest size", n)
	}
}

// A cache whose bundle is lost is written nevertheless.
func TestWriteWithoutLostBundle(t *testing.T) {
	f := newFixture(t)
	r := f.copied("a")
	own := f.pack(r)
	own.slots[parts(r)[0].Digest] = Slot{ocispec.Descriptor{MediaType: BundleType, Digest: digest.FromString("lost"), Size: 100}, 0}
	repo := &picky{Memory: cachetest.NewMemory()}
	f.blobs.Remove(parts(r)[0].Digest)
	if _, err := Write(t.Context(), repo, "cache", f.blobs, own, Options{Alone: true}); err != nil {
		t.Fatal(err)
	}
	if c := f.read(repo.Memory, "cache"); c.Steps() != 1 || len(c.bundles()) != 0 {
		t.Errorf("%d steps, %d bundles", c.Steps(), len(c.bundles()))
	}
}

// Nonsense about tables costs the tables and nothing else.
func TestReadLeavesOutTables(t *testing.T) {
	f := newFixture(t)
	for name, spoil := range map[string]func(doc *document, bundle *ocispec.Descriptor){
		"no such part":      func(doc *document, _ *ocispec.Descriptor) { doc.Steps[0].Inputs[1].Parts[0] = 1 },
		"a part below 0":    func(doc *document, _ *ocispec.Descriptor) { doc.Steps[0].Inputs[1].Parts[0] = -1 },
		"no such bundle":    func(doc *document, _ *ocispec.Descriptor) { doc.Parts[0].Bundle = digest.FromString("x") },
		"not a bundle":      func(_ *document, b *ocispec.Descriptor) { b.MediaType = ocispec.MediaTypeImageLayer },
		"behind the bundle": func(doc *document, _ *ocispec.Descriptor) { doc.Parts[0].At++ },
		"before the bundle": func(doc *document, _ *ocispec.Descriptor) { doc.Parts[0].At = -1 },
		"far behind":        func(doc *document, _ *ocispec.Descriptor) { doc.Parts[0].At = 1<<63 - 1 },
		"itself": func(doc *document, b *ocispec.Descriptor) {
			doc.Parts[0].Digest, doc.Parts[0].Bundle = b.Digest, b.Digest
		},
		"no size":       func(doc *document, _ *ocispec.Descriptor) { doc.Parts[0].Size = 0 },
		"a huge part":   func(doc *document, b *ocispec.Descriptor) { doc.Parts[0].Size, b.Size = maxPart+1, maxPart+1 },
		"a huge bundle": func(_ *document, b *ocispec.Descriptor) { b.Size = maxBundle + 1 },
		"no digest":     func(doc *document, _ *ocispec.Descriptor) { doc.Parts[0].Digest = "sha256:../../x" },
	} {
		t.Run(name, func(t *testing.T) {
			c := f.pack(f.copied("a"))
			c.bundle(t.Context(), f.blobs)
			doc, bundle := c.document(), c.bundles()[0]
			spoil(&doc, &bundle)
			got := doc.cache(append(c.layers(), bundle))
			if got.Dropped != 0 || got.Steps() != 1 || len(got.bundles()) != 0 {
				t.Errorf("%d dropped, %d steps, %d bundles", got.Dropped, got.Steps(), len(got.bundles()))
			}
		})
	}
	t.Run("other content", func(t *testing.T) {
		a, b := f.table("a"), f.table("b")
		bundle, err := f.blobs.Open(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		defer bundle.Close()
		repo := cachetest.NewMemory()
		d, err := repo.Ingest(t.Context(), BundleType, bundle)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Slot{d, 0}.In(repo).Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		var damaged *cache.CorruptError
		if _, err := io.ReadAll(r); !errors.As(err, &damaged) {
			t.Errorf("it is read: %v", err)
		}
	})
}

func TestParseOriginRefuses(t *testing.T) {
	for _, origin := range []string{"registry/repo", "bundle:", "bundle:abc:1:2@r", "bundle:" + strings.Repeat("a", 64) + ":x:0@r", "bundle:" + strings.Repeat("a", 64) + ":1@r"} {
		if s, _, ok := ParseOrigin(origin); ok {
			t.Errorf("%q is %v", origin, s)
		}
	}
}

// An old record has no tables; one of the same step that has them keeps its own.
func TestMergeKeepsTables(t *testing.T) {
	f := newFixture(t)
	with := f.copied("a")
	without := withParts(with, func(ocispec.Descriptor) bool { return false })
	for _, order := range [][]*solver.Record{{with, without}, {without, with}} {
		all := merge(f.pack(order[0]), f.pack(order[1]), time.Now())
		narrow, _ := with.Keys()
		if r := f.found(all, narrow); len(parts(r)) != 1 {
			t.Errorf("%d tables", len(parts(r)))
		}
	}
	if len(parts(without)) != 0 || len(parts(with)) != 1 {
		t.Error("the build's own record was changed")
	}
}
