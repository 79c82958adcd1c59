package travel

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
)

// A record that makes no sense is left out, and the others are used.
func TestReadLeavesOutNonsense(t *testing.T) {
	f := newFixture(t)
	good := f.run("good", digest.FromString("image"))
	narrow, _ := good.Keys()
	for name, spoil := range map[string]func(s *documentStep, l *documentLayer){
		"no operation": func(s *documentStep, _ *documentLayer) { s.Op = nil },
		"a huge operation": func(s *documentStep, _ *documentLayer) {
			s.Op = json.RawMessage(`"` + strings.Repeat("x", maxOp) + `"`)
		},
		"not exactly told":        func(s *documentStep, _ *documentLayer) { s.Op = json.RawMessage(`{"args":["\ufffd"]}`) },
		"no inputs":               func(s *documentStep, _ *documentLayer) { s.Inputs = nil },
		"an input without name":   func(s *documentStep, _ *documentLayer) { s.Inputs[0].ID = "" },
		"an input that is none":   func(s *documentStep, _ *documentLayer) { s.Inputs[0].ID = "../../etc/passwd" },
		"files that are none":     func(s *documentStep, _ *documentLayer) { s.Inputs[0].Read = "sha256:short" },
		"a layer too many":        func(s *documentStep, _ *documentLayer) { s.Layers = []int{0, 99} },
		"a layer below the first": func(s *documentStep, _ *documentLayer) { s.Layers = []int{-1} },
		"many layers":             func(s *documentStep, _ *documentLayer) { s.Layers = make([]int, maxStack+1) },
		"made in the future":      func(s *documentStep, _ *documentLayer) { s.Created = time.Now().Add(1000 * time.Hour) },
		"a long name":             func(s *documentStep, _ *documentLayer) { s.Name = strings.Repeat("x", maxText+1) },
		"no diff ID":              func(_ *documentStep, l *documentLayer) { l.DiffID = "" },
		"another algorithm": func(_ *documentStep, l *documentLayer) {
			l.DiffID = digest.Digest("sha512:" + strings.Repeat("0", 128))
		},
		"a blob that is none":      func(_ *documentStep, l *documentLayer) { l.Digest = "sha256:../../x" },
		"a blob of another size":   func(_ *documentStep, l *documentLayer) { l.Size++ },
		"a blob that is not there": func(_ *documentStep, l *documentLayer) { l.Digest = digest.FromString("elsewhere") },
		"a negative size":          func(_ *documentStep, l *documentLayer) { l.Size, l.Elsewhere = -1, true },
		"no layer at all":          func(_ *documentStep, l *documentLayer) { l.Type = ocispec.MediaTypeImageManifest },
	} {
		t.Run(name, func(t *testing.T) {
			bad := f.pack(f.run("bad", digest.FromString("image"))).document()
			spoil(&bad.Steps[0], &bad.Layers[0])
			c := f.pack(good)
			doc := c.document()
			doc.Layers = append(doc.Layers, bad.Layers[0])
			for i := range bad.Steps[0].Layers {
				bad.Steps[0].Layers[i]++ // behind the good one
			}
			if name == "a layer below the first" {
				bad.Steps[0].Layers = []int{-1}
			}
			doc.Steps = append(doc.Steps, bad.Steps[0])
			held := append(c.layers(), *f.layer("bad").Blob)
			data, err := encode(doc)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decode(data)
			if err != nil {
				t.Fatal(err)
			}
			got := again.cache(held)
			if got.Dropped != 1 || got.Steps() != 1 || f.found(got, narrow) == nil {
				t.Errorf("%d steps, %d dropped", got.Steps(), got.Dropped)
			}
		})
	}
}

// A record cannot be made to answer for another step than its own, nor to pass its
// result for that of another.
func TestRecordsHaveTheirOwnKeysOnly(t *testing.T) {
	f := newFixture(t)
	victim := f.run("make", digest.FromString("image"))
	narrow, whole := victim.Keys()
	forged := f.run("evil", digest.FromString("image"))
	forged.Result.ID = victim.Result.ID // is not even written
	repo := cachetest.NewMemory()
	f.write(repo, "cache", f.pack(forged))
	c := f.read(repo, "cache")
	if f.found(c, narrow) != nil || f.found(c, whole) != nil {
		t.Error("a record of another operation is found")
	}
	own, _ := forged.Keys()
	if got := f.found(c, own); got == nil || got.Result.ID != own {
		t.Errorf("found %+v", got)
	}
}

func TestReadRefuses(t *testing.T) {
	f := newFixture(t)
	records := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return z.EncodeAll(text, nil)
	}
	good := records(document{Version: documentVersion})
	bomb := func() []byte {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return z.EncodeAll(make([]byte, maxDocument+1), nil)
	}
	for _, tc := range []struct {
		name   string
		config []byte
		typ    string
		spoil  func(m *ocispec.Manifest)
		want   error
	}{
		{name: "not compressed", config: []byte("{}"), want: ErrDamaged},
		{name: "empty", config: []byte{}, want: ErrDamaged},
		{name: "truncated", config: good[:len(good)-3], want: ErrDamaged},
		{name: "not JSON", config: records("x"), want: ErrDamaged},
		{name: "a bomb", config: bomb(), want: ErrDamaged},
		{name: "of another version", config: records(document{Version: 99}), want: ErrForeign},
		{name: "BuildKit's", config: good, typ: buildkitConfig, want: ErrForeign},
		{name: "an artifact", config: good, typ: "application/vnd.example", want: ErrForeign},
		{name: "of impossible size", config: good, spoil: func(m *ocispec.Manifest) { m.Config.Size = maxRecords + 1 }, want: ErrDamaged},
		{name: "of another size", config: good, spoil: func(m *ocispec.Manifest) { m.Config.Size-- }, want: ErrDamaged},
		{name: "with no digest", config: good, spoil: func(m *ocispec.Manifest) { m.Config.Digest = "x" }, want: ErrDamaged},
		{name: "with many layers", config: good, spoil: func(m *ocispec.Manifest) { m.Layers = make([]ocispec.Descriptor, 2*maxLayers+1) }, want: ErrDamaged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			repo := cachetest.NewMemory()
			typ := tc.typ
			if typ == "" {
				typ = ConfigType
			}
			config, err := repo.Ingest(t.Context(), typ, bytes.NewReader(tc.config))
			if err != nil {
				t.Fatal(err)
			}
			m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config}
			if tc.spoil != nil {
				tc.spoil(&m)
			}
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			root, err := repo.Ingest(t.Context(), m.MediaType, bytes.NewReader(data))
			if err == nil {
				err = repo.Tag(t.Context(), "cache", root)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Read(t.Context(), repo, "cache"); !errors.Is(err, tc.want) {
				t.Errorf("Read: %v, want %v", err, tc.want)
			}
			// Whoever writes there replaces it, and says so.
			var told error
			step := f.run("make", digest.FromString("image"))
			_, err = Write(t.Context(), repo, "cache", f.blobs, f.pack(step), Options{Alone: true, Replacing: func(err error) { told = err }})
			if err != nil || !errors.Is(told, tc.want) {
				t.Errorf("Write: %v, told %v", err, told)
			}
			if c := f.read(repo, "cache"); c.Steps() != 1 {
				t.Errorf("%d steps", c.Steps())
			}
		})
	}
}

// FuzzParse reads anything without panicking, and whatever it accepts can be
// written again.
func FuzzParse(f *testing.F) {
	fix := newFixture(f)
	c := fix.pack(fix.chain()...)
	held := c.layers()
	text, err := json.Marshal(c.document())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"v":1,"layers":[{}],"steps":[{"layers":[0],"inputs":[{}],"op":{}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := parse(text)
		if err != nil {
			return
		}
		c := doc.cache(held)
		data, err := json.Marshal(c.document())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.cache(held); got.Steps() != c.Steps() || got.Dropped != 0 {
			t.Errorf("%d steps, then %d with %d dropped", c.Steps(), got.Steps(), got.Dropped)
		}
	})
}
