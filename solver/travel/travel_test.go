package travel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/solver"
)

var made = time.Now().UTC().Truncate(time.Second).Add(-time.Hour)

// fixture is a place where steps are made.
type fixture struct {
	testing.TB
	blobs *cachetest.Memory // with the layers of all steps
	pool  *layer.Pool
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	tmp := t.TempDir()
	pool, err := layer.OpenPool(filepath.Join(tmp, "layers"), func() (string, error) { return tmp, nil })
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, cachetest.NewMemory(), pool}
}

// layer is a layer that came from somewhere, and whose blob is here.
func (f *fixture) layer(name string) snapshot.Layer {
	f.Helper()
	content := []byte("layer " + name)
	d, err := f.blobs.Ingest(f.Context(), ocispec.MediaTypeImageLayerGzip, bytes.NewReader(content))
	if err != nil {
		f.Fatal(err)
	}
	return snapshot.Layer{DiffID: digest.FromString("diff " + name), Blob: &d, Created: made}
}

// run is the record of "RUN name" on an input, whose layers it has below its own.
func (f *fixture) run(name string, on digest.Digest, below ...snapshot.Layer) *solver.Record {
	f.Helper()
	return f.record("run", solver.Run{Args: []string{name}}, []solver.RecordedInput{{Name: "base", ID: on}}, append(slices.Clone(below), f.layer(name)))
}

func (f *fixture) record(kind string, op solver.Op, inputs []solver.RecordedInput, layers []snapshot.Layer) *solver.Record {
	f.Helper()
	data, err := json.Marshal(op)
	if err != nil {
		f.Fatal(err)
	}
	r := solver.NewRecord(kind, data)
	r.Name, r.Pos, r.Inputs, r.Created, r.Took = kind, solver.Pos{File: "Dockerfile", First: 3, Last: 3}, inputs, made, time.Second
	r.Result.Layers = layers
	r.Result.ID = r.Identity()
	return r
}

func (f *fixture) pack(records ...*solver.Record) *Cache {
	f.Helper()
	c, err := Pack(f.Context(), records, nil, nil, f.pool, f.blobs, exporter.PackOptions{})
	if err != nil {
		f.Fatal(err)
	}
	return c
}

// here is a read that must work.
func (f *fixture) read(repo *cachetest.Memory, name string) *Cache {
	f.Helper()
	c, err := Read(f.Context(), repo, name)
	if err != nil {
		f.Fatal(err)
	}
	return c
}

// found looks a key up in c; nil is a miss.
func (f *fixture) found(c *Cache, k digest.Digest) *solver.Record {
	f.Helper()
	data, err := NewIndex(c, func(digest.Digest, *Slot) error { return nil }).Get(f.Context(), k)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.Fatal(err)
	}
	r, err := solver.DecodeRecord(data)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) write(repo *cachetest.Memory, name string, c *Cache) Report {
	f.Helper()
	r, err := Write(f.Context(), repo, name, f.blobs, c, Options{Alone: true})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// What is read is what was written, under every key that it is recorded under.
func TestRoundTrip(t *testing.T) {
	f := newFixture(t)
	base := f.layer("base")
	first := f.run("make", digest.FromString("image"), base)
	first.Salt = "salt"
	first.Result.ID = first.Identity()
	second := f.record("copy", solver.Copy{Dest: "/x <&>"}, []solver.RecordedInput{
		{Name: "base", ID: digest.FromString("image")},
		{Name: "stage", ID: first.Result.ID, Read: solver.Identity{Digest: digest.FromString("files"), Parts: []ocispec.Descriptor{{Digest: digest.FromString("table")}}}},
		{Name: "context", Read: solver.Identity{Digest: digest.FromString("other files")}},
	}, []snapshot.Layer{base, f.layer("copied")})
	third := f.record("copy", solver.Copy{Dest: "/y"}, second.Inputs[:2], []snapshot.Layer{base, f.layer("copied")})
	c, err := Pack(t.Context(), []*solver.Record{first, second, third}, map[digest.Digest]bool{base.Blob.Digest: true}, nil, f.pool, f.blobs, exporter.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	repo := cachetest.NewMemory()
	if r := f.write(repo, "cache", c); !r.Written || r.Steps != 3 {
		t.Errorf("report: %+v", r)
	}
	got := f.read(repo, "cache")
	var learned []digest.Digest
	index := NewIndex(got, func(d digest.Digest, in *Slot) error {
		if in == nil {
			learned = append(learned, d)
		}
		return nil
	})
	for _, want := range []*solver.Record{first, second, third} {
		narrow, whole := want.Keys()
		for i := range want.Inputs {
			want.Inputs[i].Read.Parts = nil // those of this test are no tables
		}
		for _, k := range []digest.Digest{narrow, whole} {
			if k == "" {
				continue
			}
			data, err := index.Get(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			r, err := solver.DecodeRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, r); diff != "" {
				t.Error(diff)
			}
		}
	}
	// The base image's layer is known to whoever has the image; it is not here.
	slices.Sort(learned)
	want := []digest.Digest{f.layer("make").Blob.Digest, f.layer("copied").Blob.Digest}
	slices.Sort(want)
	if diff := cmp.Diff(want, learned); diff != "" {
		t.Errorf("learned: %s", diff)
	}
	if ok, _ := repo.Has(t.Context(), *base.Blob); ok {
		t.Error("the base image's layer was sent")
	}
	if _, err := index.Get(t.Context(), digest.FromString("other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a miss is %v", err)
	}
}

// A layer that was made here is packed, once, as images have it.
func TestPackOwnLayers(t *testing.T) {
	f := newFixture(t)
	d, err := f.pool.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.File("f", snapshot.Entry{Mode: 0o644, ModTime: made}, bytes.NewReader([]byte("content"))); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit("own"); err != nil {
		t.Fatal(err)
	}
	r := f.run("make", digest.FromString("image"))
	r.Result.Layers = []snapshot.Layer{{ID: "own", Created: made}}
	want, err := exporter.PackLayers(t.Context(), r.Result.Layers, f.pool, f.blobs, exporter.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := len(f.blobs.Digests())
	c := f.pack(r)
	if n := len(f.blobs.Digests()); n != before {
		t.Errorf("%d blobs more", n-before)
	}
	narrow, _ := r.Keys()
	got := f.found(c, narrow)
	if diff := cmp.Diff([]snapshot.Layer{{DiffID: want[0].DiffID, Blob: &want[0].Blob, Created: made}}, got.Result.Layers); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]snapshot.Layer{{ID: "own", Created: made}}, r.Result.Layers); diff != "" {
		t.Errorf("the build's own record was changed: %s", diff)
	}
}

func TestWriteMerges(t *testing.T) {
	f := newFixture(t)
	repo := cachetest.NewMemory()
	one, two := f.run("one", digest.FromString("image")), f.run("two", digest.FromString("image"))
	f.write(repo, "cache", f.pack(one))
	if r := f.write(repo, "cache", f.pack(two)); r.Steps != 2 {
		t.Errorf("%d steps after two builds", r.Steps)
	}
	before := repo.Digests()
	if r := f.write(repo, "cache", f.pack(one, two)); r.Written || r.Steps != 2 {
		t.Errorf("what is there already: %+v", r)
	}
	if diff := cmp.Diff(before, repo.Digests()); diff != "" {
		t.Error(diff)
	}
	// What was made later wins, in whatever order it is merged.
	again := f.run("one", digest.FromString("image"))
	again.Created = made.Add(time.Minute)
	again.Result.Layers = []snapshot.Layer{f.layer("one, again")}
	f.write(repo, "cache", f.pack(again))
	if r := f.write(repo, "cache", f.pack(one)); r.Written {
		t.Error("an earlier result replaces a later one")
	}
	narrow, _ := one.Keys()
	if got := f.found(f.read(repo, "cache"), narrow); got == nil || got.Result.Layers[0].DiffID != again.Result.Layers[0].DiffID {
		t.Errorf("found %+v", got)
	}
}

// What lost a layer that it says is there is replaced.
func TestWriteToDamagedRepository(t *testing.T) {
	f := newFixture(t)
	repo := &picky{Memory: cachetest.NewMemory()}
	lost := f.run("lost", digest.FromString("image"))
	f.write(repo.Memory, "cache", f.pack(lost))
	repo.Remove(lost.Result.Layers[0].Blob.Digest)
	var told error
	kept := f.run("kept", digest.FromString("image"))
	r, err := Write(t.Context(), repo, "cache", f.blobs, f.pack(kept), Options{Alone: true, Replacing: func(err error) { told = err }})
	if err != nil || r.Steps != 1 || told == nil {
		t.Errorf("%+v, %v, told %v", r, err, told)
	}
}

// picky refuses, as registries do, manifests whose layers it does not have.
type picky struct{ *cachetest.Memory }

func (p *picky) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if exporter.IsManifest(d.MediaType) && json.Unmarshal(data, &m) == nil {
		for _, l := range m.Layers {
			if ok, _ := p.Has(ctx, l); !ok {
				return fmt.Errorf("manifest blob unknown: %s", l.Digest)
			}
		}
	}
	return p.Memory.Put(ctx, d, bytes.NewReader(data))
}

func TestWriteNeverOverwritesImages(t *testing.T) {
	f := newFixture(t)
	for _, inline := range []bool{false, true} {
		repo := cachetest.NewMemory()
		root := f.image(repo, "app", inline)
		known, err := Read(t.Context(), repo, "app")
		if inline != (err == nil) {
			t.Fatal(err)
		}
		for _, known := range []*Cache{nil, known} {
			_, err := Write(t.Context(), repo, "app", f.blobs, f.pack(f.run("x", root.Digest)), Options{Alone: true, Known: known})
			if !errors.Is(err, errImage) {
				t.Errorf("inline %v, known %v: %v", inline, known != nil, err)
			}
		}
		if now, _ := repo.Resolve(t.Context(), "app"); now.Digest != root.Digest {
			t.Error("the image was overwritten")
		}
	}
}

func TestMergeBounds(t *testing.T) {
	f := newFixture(t)
	now := time.Now()
	c := newCache()
	for i := range maxLayers + 10 {
		r := f.run(fmt.Sprint(i), digest.FromString("image"))
		c.held[r.Result.Layers[0].Blob.Digest] = *r.Result.Layers[0].Blob
		c.add(newStep(r, now.Add(-time.Duration(i)*time.Second)))
	}
	old := f.run("old", digest.FromString("image"))
	c.add(newStep(old, now.Add(-maxIdle-time.Hour)))
	all := merge(c, newCache(), now)
	if len(all.held) != maxLayers || all.Steps() != maxLayers {
		t.Errorf("%d layers, %d steps", len(all.held), all.Steps())
	}
	latest, _ := f.run("0", digest.FromString("image")).Keys()
	longest, _ := old.Keys()
	if f.found(all, latest) == nil || f.found(all, longest) != nil {
		t.Error("not the longest unused went")
	}
	few := newCache()
	few.add(newStep(old, now.Add(-maxIdle-time.Hour)))
	if merge(few, newCache(), now).Steps() != 0 {
		t.Error("what nobody uses is kept")
	}
}

func TestLayout(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "a b", "cache")
	if _, err := ReadLayout(t.Context(), dir, "latest"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no layout: %v", err)
	}
	count := func() int {
		blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(blobs)
	}
	one, two := f.run("one", digest.FromString("image")), f.run("two", digest.FromString("image"))
	for i, r := range []*solver.Record{one, two} {
		if _, err := WriteLayout(t.Context(), dir, "latest", f.blobs, f.pack(r), Options{}); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != i+3 { // layers, records, manifest
			t.Errorf("%d blobs after %d writes", n, i+1)
		}
	}
	if _, err := WriteLayout(t.Context(), dir, "other", f.blobs, f.pack(one), Options{}); err != nil {
		t.Fatal(err)
	}
	c, err := ReadLayout(t.Context(), dir, "latest")
	if err != nil || c.Steps() != 2 {
		t.Fatalf("%v, %v", c, err)
	}
	if by, err := ReadLayout(t.Context(), dir, c.Root.Digest.String()); err != nil || by.Steps() != 2 {
		t.Errorf("by digest: %v", err)
	}
	if _, err := ReadLayout(t.Context(), dir, "third"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such tag: %v", err)
	}
}

// A cache of the result's own steps tells of others what it takes to find these.
func TestOwn(t *testing.T) {
	f := newFixture(t)
	var g solver.Graph
	image := g.Add(solver.Node{Op: solver.Image{}})
	add := func(inputs ...solver.ID) solver.ID {
		return g.Add(solver.Node{Op: solver.Run{Args: []string{fmt.Sprint(len(g.Nodes))}}, Inputs: inputs})
	}
	plain, narrowed, forced := add(image), add(image), add(image)
	linked := g.Add(solver.Node{Op: solver.Copy{Dest: "/linked"}, Inputs: []solver.ID{image}})
	root := g.Add(solver.Node{Op: solver.Merge{}, Inputs: []solver.ID{add(image), linked}})
	var c Collector
	for id := range g.Nodes {
		name := fmt.Sprint(id)
		r := f.run(name, digest.FromString("image"))
		r.Name = name
		switch solver.ID(id) {
		case image, root:
			continue
		case narrowed:
			r.Inputs[0].Read.Digest = digest.FromString("a part")
		case forced:
			r.Salt = "salt"
		}
		c.Solved(solver.Solved{Node: solver.ID(id), Record: r})
	}
	describe := func(records []*solver.Record) (all []string) {
		for _, r := range records {
			all = append(all, fmt.Sprintf("%s %v %d", r.Name, r.Absent, len(r.Result.Layers)))
		}
		return all
	}
	own := c.Own(&g, root)
	want := []string{
		fmt.Sprintf("%d true 0", narrowed), fmt.Sprintf("%d true 0", forced),
		fmt.Sprintf("%d false 1", linked), fmt.Sprintf("%d false 1", linked+1),
	}
	if diff := cmp.Diff(want, describe(own)); diff != "" {
		t.Errorf("without %d: %s", plain, diff)
	}
	if n := len(c.All(&g)); n != 5 {
		t.Errorf("%d in all", n)
	}
	repo := cachetest.NewMemory()
	f.write(repo, "cache", f.pack(own...))
	got := f.read(repo, "cache")
	for _, r := range own {
		narrow, _ := r.Keys()
		if there := f.found(got, narrow); there == nil || there.Absent != r.Absent || there.Result.ID != r.Identity() {
			t.Errorf("%s: %+v", r.Name, there)
		}
	}
	// A result is worth more than an identity, in whatever order they are merged.
	f.write(repo, "cache", f.pack(c.All(&g)...))
	if r := f.write(repo, "cache", f.pack(own...)); r.Written {
		t.Error("an identity replaces a result")
	}
	narrow, _ := own[0].Keys()
	if there := f.found(f.read(repo, "cache"), narrow); there == nil || there.Absent {
		t.Errorf("found %+v", there)
	}
}
