package travel

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/solver"
)

// image puts an image with two layers, made by two steps, into repo.
func (f *fixture) image(repo *cachetest.Memory, name string, inline bool) ocispec.Descriptor {
	f.Helper()
	steps := f.chain()
	out := exporter.Output{Layers: steps[1].Result.Layers}
	out.Config.OS, out.Config.Architecture = "linux", "amd64"
	for i := range out.Layers {
		at := made.Add(time.Duration(i) * time.Second)
		out.Config.History = append(out.Config.History, ocispec.History{Created: &at}, ocispec.History{Created: &at, EmptyLayer: true})
	}
	if inline {
		records, err := Inline(steps, out.Layers)
		if err != nil {
			f.Fatal(err)
		}
		out.ConfigMembers = map[string]json.RawMessage{ConfigMember: records}
	}
	root, err := exporter.Pack(f.Context(), []exporter.Output{out}, f.pool, f.blobs, exporter.PackOptions{})
	if err != nil {
		f.Fatal(err)
	}
	if err := exporter.To(repo, name).Export(f.Context(), f.blobs, root); err != nil {
		f.Fatal(err)
	}
	return root
}

// chain is two steps, one on the other.
func (f *fixture) chain() []*solver.Record {
	first := f.run("first", digest.FromString("image"))
	return []*solver.Record{first, f.run("second", first.Result.ID, first.Result.Layers...)}
}

func TestInline(t *testing.T) {
	f := newFixture(t)
	repo := cachetest.NewMemory()
	f.image(repo, "app", true)
	c := f.read(repo, "app")
	if !c.Image || c.Steps() != 2 {
		t.Fatalf("%d steps in an image (%v)", c.Steps(), c.Image)
	}
	for depth, want := range f.chain() {
		narrow, _ := want.Keys()
		got := f.found(c, narrow)
		if got == nil || got.Result.ID != want.Result.ID || len(got.Result.Layers) != depth+1 {
			t.Fatalf("step %d: %+v", depth, got)
		}
		for i, l := range got.Result.Layers {
			if l.DiffID != want.Result.Layers[i].DiffID || !l.Created.Equal(made.Add(time.Duration(i)*time.Second)) {
				t.Errorf("step %d, layer %d: %+v", depth, i, l)
			}
		}
	}
	// Nothing in it depends on when or where it was made.
	later := f.chain()
	for _, r := range later {
		r.Created, r.Took, r.Name, r.Pos = r.Created.Add(time.Hour), 0, "other", solver.Pos{File: "/other/Dockerfile", First: 9}
	}
	a, err := Inline(f.chain(), f.chain()[1].Result.Layers)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Inline(later, f.chain()[1].Result.Layers)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("it depends on more than the steps: %v", err)
	}
	// Steps whose layers are not the image's are not in it.
	none, err := Inline(f.chain(), []snapshot.Layer{f.layer("squashed")})
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	if err := json.Unmarshal(none, &data); err != nil {
		t.Fatal(err)
	}
	if doc, err := decode(data); err != nil || len(doc.Steps) != 0 {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestReadIndexOfImages(t *testing.T) {
	f := newFixture(t)
	repo := cachetest.NewMemory()
	with, without := f.image(repo, "with", true), f.image(repo, "without", false)
	put := func(name string, manifests ...ocispec.Descriptor) {
		data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
		if err != nil {
			t.Fatal(err)
		}
		d, err := repo.Ingest(t.Context(), ocispec.MediaTypeImageIndex, bytes.NewReader(data))
		if err == nil {
			err = repo.Tag(t.Context(), name, d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("both", without, with)
	put("none", without)
	if c := f.read(repo, "both"); c.Steps() != 2 || !c.Image {
		t.Errorf("%d steps", c.Steps())
	}
	if _, err := Read(t.Context(), repo, "none"); !errors.Is(err, ErrNoCache) {
		t.Errorf("error is %v", err)
	}
}
