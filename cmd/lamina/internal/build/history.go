package build

import (
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/frontend"
	"lamina/snapshot"
	"lamina/solver"
	"lamina/solver/local/gitsource"
)

// exporterComment marks history entries of layers that no instruction tells of,
// with the words that other tools know.
const exporterComment = "buildkit.exporter.image.v0"

// untold are entries for the layers of t that history has none for, because the
// image is from files of a named context. As in the reference they come last, and
// are those of the last layers.
func (b *build) untold(t frontend.Target, found results, history []ocispec.History, epoch *time.Time) []ocispec.History {
	told := 0
	for _, h := range history {
		if !h.EmptyLayer {
			told++
		}
	}
	layers := found[t.Root].Layers
	if told >= len(layers) {
		return nil
	}
	var all []ocispec.History
	names := b.layerNames(t.Root, found)
	for i := told; i < len(layers); i++ {
		h := ocispec.History{CreatedBy: names[i], Comment: exporterComment, Created: epoch}
		if made := layers[i].Created; epoch == nil && !made.IsZero() {
			h.Created = &made
		}
		all = append(all, h)
	}
	return all
}

// layerNames says of each layer of the node root what made it.
func (b *build) layerNames(root solver.ID, found results) []string {
	var names []string
	n := b.plan.Graph.Nodes[root]
	var below []snapshot.Layer
	if len(n.Inputs) > 0 {
		if r, ok := found[n.Inputs[0]]; ok {
			below, names = r.Layers, b.layerNames(n.Inputs[0], found)
		}
	}
	for range found[root].Layers[len(below):] {
		names = append(names, madeBy(n))
	}
	return names
}

// madeBy says what made the layers of n, in the reference's words.
func madeBy(n solver.Node) string {
	switch op := n.Op.(type) {
	case solver.Git:
		name := "git snapshot for " + gitsource.Redact(op.Remote)
		if op.Ref != "" {
			name += "#" + op.Ref
		}
		return name
	case solver.HTTP:
		return "http url " + gitsource.Redact(op.URL)
	case solver.Image:
		if _, ref, ok := strings.Cut(n.Name, "FROM "); ok {
			return "pulled from " + ref
		}
	}
	return n.Name
}
