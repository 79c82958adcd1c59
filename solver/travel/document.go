package travel

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/mounts"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// Bounds of what is read, which strangers wrote.
const (
	maxRecords  = 8 << 20  // bytes of records, compressed
	maxDocument = 32 << 20 // the same, not compressed
	maxOp       = 1 << 20  // bytes of one operation
	maxInputs   = 1000     // of one operation
	maxStack    = 1000     // layers of one result
	maxText     = 4 << 10  // bytes of a name
)

// documentVersion is raised when a reader of the old form would misunderstand.
const documentVersion = 1

// document is the records of a cache as JSON, which is compressed. Layers are
// listed once and referred to by position.
type document struct {
	Version int             `json:"v"`
	Layers  []documentLayer `json:"layers,omitempty"`
	// Parts are small blobs that lie in bundles; steps refer to them by position.
	Parts []documentPart `json:"parts,omitempty"`
	Steps []documentStep `json:"steps"`
	// Mounts are the cache mounts; their blobs are layers of the manifest.
	Mounts []*mounts.Version `json:"mounts,omitempty"`
}

type documentLayer struct {
	DiffID  digest.Digest `json:"diffID"`
	Type    string        `json:"type"`
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"`
	Created time.Time     `json:"created,omitzero"`
	// Elsewhere marks a layer of a base image: whoever builds on the same image
	// knows where that is, so it does not lie here.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// List is the part that lists the layer's files, from 1; 0 if none does.
	List int `json:"list,omitempty"`
}

// documentPart is a small blob, of the type of a table of files, and its place in a
// bundle, which is a layer of the manifest.
type documentPart struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Bundle digest.Digest `json:"bundle"`
	At     int64         `json:"at,omitempty"`
}

type documentStep struct {
	Kind   string          `json:"kind"`
	Op     json.RawMessage `json:"op"`
	Inputs []documentInput `json:"inputs"`
	Salt   string          `json:"salt,omitempty"`
	// Layers are those of the result, lowest first, by their position in the
	// document or, of a cache in an image, in the image. A step without any tells its
	// result's identity alone, which those that stand on it are found by.
	Layers []int `json:"layers,omitempty"`

	Name    string        `json:"name,omitempty"`
	Pos     solver.Pos    `json:"pos,omitzero"`
	Created time.Time     `json:"created,omitzero"`
	Took    time.Duration `json:"took,omitempty"`
	Used    time.Time     `json:"used,omitzero"`
}

type documentInput struct {
	Name string        `json:"name,omitempty"`
	ID   digest.Digest `json:"id,omitempty"`
	Read digest.Digest `json:"read,omitempty"`
	// Parts list the files that Read was made of.
	Parts []int `json:"parts,omitempty"`
}

// document lists the steps in a fixed order.
func (c *Cache) document() document {
	doc := document{Version: documentVersion, Mounts: c.Mounts()}
	at, partAt := map[documentLayer]int{}, map[digest.Digest]int{}
	part := func(d ocispec.Descriptor, slot Slot) int {
		i, ok := partAt[d.Digest]
		if !ok {
			i = len(doc.Parts)
			partAt[d.Digest] = i
			doc.Parts = append(doc.Parts, documentPart{d.Digest, d.Size, slot.Bundle.Digest, slot.At})
		}
		return i
	}
	for _, s := range c.sorted() {
		out := describe(s.record)
		out.Used = s.used
		for n, in := range s.record.Inputs {
			for _, d := range in.Read.Parts {
				slot, lies := c.slots[d.Digest]
				if !lies {
					continue
				}
				out.Inputs[n].Parts = append(out.Inputs[n].Parts, part(d, slot))
			}
		}
		for _, l := range s.record.Result.Layers {
			_, here := c.held[l.Blob.Digest]
			described := documentLayer{
				DiffID: l.DiffID, Type: l.Blob.MediaType, Digest: l.Blob.Digest, Size: l.Blob.Size, Created: l.Created.UTC(), Elsewhere: !here,
			}
			if list, listed := c.lists[l.DiffID]; listed {
				if slot, lies := c.slots[list.Digest]; lies {
					described.List = part(list, slot) + 1
				}
			}
			i, ok := at[described]
			if !ok {
				i = len(doc.Layers)
				at[described] = i
				doc.Layers = append(doc.Layers, described)
			}
			out.Layers = append(out.Layers, i)
		}
		doc.Steps = append(doc.Steps, out)
	}
	return doc
}

func (c *Cache) sorted() []*step {
	return slices.SortedFunc(maps.Values(c.steps), func(a, b *step) int { return cmp.Compare(a.id, b.id) })
}

// describe is a record without its layers and tables. The path of the Dockerfile stays
// behind: it says more of a machine than of a step.
func describe(r *solver.Record) documentStep {
	out := documentStep{
		Kind: r.Kind, Op: r.Op, Salt: r.Salt,
		Name: r.Name, Pos: r.Pos, Created: r.Created, Took: r.Took,
	}
	if r.Pos.File != "" {
		out.Pos.File = path.Base(r.Pos.File)
	}
	for _, in := range r.Inputs {
		out.Inputs = append(out.Inputs, documentInput{Name: in.Name, ID: in.ID, Read: in.Read.Digest})
	}
	return out
}

// encode writes and compresses a document.
func encode(doc document) ([]byte, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode cache: %w", err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("encode cache: %w", err)
	}
	defer z.Close()
	return z.EncodeAll(data, nil), nil
}

// decode reads what encode wrote.
func decode(data []byte) (document, error) {
	z, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDocument))
	if err != nil {
		return document{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer z.Close()
	text, err := io.ReadAll(io.LimitReader(z, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("more than %d bytes", maxDocument)
	}
	if err != nil {
		return document{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return parse(text)
}

func parse(text []byte) (document, error) {
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return doc, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if doc.Version != documentVersion {
		return doc, fmt.Errorf("%w: version %d", ErrForeign, doc.Version)
	}
	return doc, nil
}

// cache makes a cache of a document, whose manifest holds these layers. What makes
// no sense is left out.
func (doc document) cache(held []ocispec.Descriptor) *Cache {
	c := newCache()
	bundles := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range held {
		if d.MediaType == BundleType {
			bundles[d.Digest] = d
		} else {
			c.held[d.Digest] = d
		}
	}
	parts := make([]*ocispec.Descriptor, len(doc.Parts))
	for i, p := range doc.Parts {
		d := ocispec.Descriptor{MediaType: fileset.TableType, Digest: p.Digest, Size: p.Size}
		slot := Slot{bundles[p.Bundle], p.At}
		if isPart(d) && slot.check(d) == nil {
			parts[i] = &d
			c.slots[d.Digest] = slot
		}
	}
	layers := make([]*snapshot.Layer, len(doc.Layers))
	for i, l := range doc.Layers {
		if l.check(c.held) == nil {
			blob := ocispec.Descriptor{MediaType: l.Type, Digest: l.Digest, Size: l.Size}
			layers[i] = &snapshot.Layer{DiffID: l.DiffID, Blob: &blob, Created: l.Created}
			if l.List > 0 && l.List <= len(parts) && parts[l.List-1] != nil {
				list := *parts[l.List-1]
				list.MediaType = layer.InventoryType
				c.lists[l.DiffID] = list
			}
		}
	}
	for _, s := range doc.Steps {
		r, err := s.decode(layers, parts)
		if err != nil {
			c.Dropped++
			continue
		}
		used := s.Used
		if now := time.Now(); used.After(now) {
			used = now // or it would be kept for ever
		}
		c.add(newStep(r, used))
	}
	c.readMounts(doc.Mounts)
	return c
}

func (l documentLayer) check(held map[digest.Digest]ocispec.Descriptor) error {
	if err := l.DiffID.Validate(); err != nil {
		return err
	}
	if err := l.Digest.Validate(); err != nil {
		return err
	}
	d, here := held[l.Digest]
	switch {
	case l.DiffID.Algorithm() != digest.SHA256 || l.Digest.Algorithm() != digest.SHA256:
		return errors.New("not a sha256 digest")
	case !exporter.IsLayer(l.Type) || l.Size <= 0:
		return errors.New("not a layer")
	case !l.Elsewhere && (!here || d.Size != l.Size):
		return errors.New("not what the manifest says")
	}
	return nil
}

// decode makes a record of a step whose layers and parts are among these; nil is one
// that cannot be used. A step is not worse for parts that are lost.
func (s documentStep) decode(layers []*snapshot.Layer, parts []*ocispec.Descriptor) (*solver.Record, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	r := solver.NewRecord(s.Kind, s.Op)
	r.Salt, r.Name, r.Pos, r.Created, r.Took = s.Salt, s.Name, s.Pos, s.Created, s.Took
	r.Absent = len(s.Layers) == 0
	for _, in := range s.Inputs {
		read := solver.Identity{Digest: in.Read}
		for _, i := range in.Parts {
			if i >= 0 && i < len(parts) && parts[i] != nil {
				read.Parts = append(read.Parts, *parts[i])
			}
		}
		r.Inputs = append(r.Inputs, solver.RecordedInput{Name: in.Name, ID: in.ID, Read: read})
	}
	for _, i := range s.Layers {
		if i < 0 || i >= len(layers) || layers[i] == nil {
			return nil, fmt.Errorf("there is no layer %d", i)
		}
		r.Result.Layers = append(r.Result.Layers, *layers[i])
	}
	if !r.Exact() {
		return nil, errors.New("its operation is not told exactly")
	}
	return r, nil
}

// check refuses what no lamina writes.
func (s documentStep) check() error {
	if len(s.Op) == 0 || s.Op[0] != '{' || len(s.Op) > maxOp || len(s.Kind) > maxText || len(s.Name) > maxText || len(s.Salt) > maxText {
		return errors.New("no operation, or too long a text")
	}
	if len(s.Inputs) == 0 || len(s.Inputs) > maxInputs || len(s.Layers) > maxStack {
		return errors.New("a number of inputs or layers that no step has")
	}
	if s.Created.After(time.Now().Add(usedAfter)) {
		return errors.New("made in the future")
	}
	for _, in := range s.Inputs {
		if len(in.Parts) > maxInputs {
			return errors.New("more lists of files than there are")
		}
		if in.ID == "" && in.Read == "" {
			return errors.New("an input is not identified")
		}
		for _, d := range []digest.Digest{in.ID, in.Read} {
			if d == "" {
				continue
			}
			if err := d.Validate(); err != nil {
				return err
			}
		}
	}
	return nil
}
