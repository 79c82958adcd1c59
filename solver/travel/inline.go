package travel

import (
	"encoding/json"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/solver"
)

// Inline returns what an image's configuration has to have, as its member
// [ConfigMember], to be a cache of the steps that made it: those whose layers are
// all among the image's, and identities (see [Collector.Own]). It depends on nothing but what went into these steps, so
// the same image is the same to the bit wherever it is made.
func Inline(steps []*solver.Record, image []snapshot.Layer) (json.RawMessage, error) {
	doc := document{Version: documentVersion, Steps: []documentStep{}}
	seen := map[cache.Key]bool{}
	for _, r := range steps {
		at := positions(r.Result.Layers, image)
		narrow, _ := r.Keys()
		if at == nil && !r.Absent || seen[narrow] || !r.Exact() {
			continue
		}
		seen[narrow] = true
		s := documentStep{Kind: r.Kind, Op: r.Op, Salt: r.Salt, Layers: at}
		for _, in := range r.Inputs {
			s.Inputs = append(s.Inputs, documentInput{ID: in.ID, Read: in.Read.Digest})
		}
		doc.Steps = append(doc.Steps, s)
	}
	data, err := encode(doc)
	if err != nil {
		return nil, err
	}
	return json.Marshal(data)
}

// positions tells where layers are in an image; nil if not all are there.
func positions(layers, image []snapshot.Layer) []int {
	var at []int
	for _, l := range layers {
		i := slices.IndexFunc(image, func(m snapshot.Layer) bool { return same(l, m) })
		if i < 0 {
			return nil
		}
		at = append(at, i)
	}
	return at
}

// same tells whether two layers are one.
func same(l, m snapshot.Layer) bool {
	if l.ID != "" || m.ID != "" {
		return l.ID == m.ID
	}
	return l.DiffID == m.DiffID && l.Blob != nil && m.Blob != nil && l.Blob.Digest == m.Blob.Digest
}

// imageConfig is what is read of an image's configuration.
type imageConfig struct {
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history"`
	Records []byte            `json:"lamina.cache.v1"`
}

// inline makes a cache of an image.
func (config imageConfig) inline(held []ocispec.Descriptor) (*Cache, error) {
	if config.Records == nil {
		return nil, ErrNoCache
	}
	doc, err := decode(config.Records)
	if err != nil {
		return nil, err
	}
	if len(held) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: %d layers with %d diff IDs", ErrDamaged, len(held), len(config.RootFS.DiffIDs))
	}
	doc.Layers = nil
	for i, d := range held {
		doc.Layers = append(doc.Layers, documentLayer{DiffID: config.RootFS.DiffIDs[i], Type: d.MediaType, Digest: d.Digest, Size: d.Size})
	}
	i := 0
	for _, h := range config.History {
		if !h.EmptyLayer && i < len(doc.Layers) {
			if h.Created != nil {
				doc.Layers[i].Created = h.Created.UTC()
			}
			i++
		}
	}
	return doc.cache(held), nil
}
