package build

import (
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/exporter"
	"lamina/frontend"
	"lamina/solver"
)

// image completes a target: its history says of each instruction whether it made
// a layer, and when.
func (b *build) image(t frontend.Target, found results, epoch *time.Time) exporter.Output {
	out := exporter.Output{
		Platform: t.Platform, Config: t.Config, Layers: found[t.Root].Layers, OmitHistory: b.opt.omitHistory,
	}
	history := slices.Clone(t.Config.History)
	for _, h := range t.History {
		entry := ocispec.History{CreatedBy: h.CreatedBy, Comment: h.Comment, EmptyLayer: true, Created: epoch}
		if h.Node != frontend.EmptyLayer {
			below := found[b.plan.Graph.Nodes[h.Node].Inputs[0]].Layers
			if layers := found[h.Node].Layers; len(layers) > len(below) {
				entry.EmptyLayer = false
				if made := layers[len(layers)-1].Created; epoch == nil && !made.IsZero() {
					entry.Created = &made
				}
			}
		}
		history = append(history, entry)
	}
	history = append(history, b.untold(t, found, history, epoch)...)
	date(history, epoch)
	out.Config.History = history
	for i, h := range history {
		// When the newest layer was made: one that is linked may be older than those
		// below it. The base's are what they are.
		before := out.Config.Created
		if h.Created != nil && (before == nil || i <= len(t.Config.History) || h.Created.After(*before)) {
			out.Config.Created = h.Created
		}
	}
	if made := out.Config.Created; epoch != nil && (made == nil || made.After(*epoch)) {
		out.Config.Created = epoch
	}
	return out
}

// date gives the entries of a history that have no time one: the epoch or else,
// as the reference does it, that of the last entry before which has one. Those
// that come before all new layers get the first new layer's.
func date(history []ocispec.History, epoch *time.Time) {
	first := slices.IndexFunc(history, func(h ocispec.History) bool { return h.Created == nil })
	if first < 0 {
		return
	}
	when := epoch
	if when == nil && first > 0 {
		when = history[first-1].Created
	}
	if later := slices.IndexFunc(history[first:], func(h ocispec.History) bool { return h.Created != nil }); later >= 0 && epoch == nil {
		when = history[first+later].Created
	}
	for i := range history[first:] {
		h := &history[first+i]
		if h.Created == nil {
			h.Created = when
		} else if epoch == nil {
			when = h.Created
		}
	}
}

// baseLayers is how many of the layers of the image at id are the base image's.
func (b *build) baseLayers(id solver.ID) int {
	for {
		n := b.plan.Graph.Nodes[id]
		if base, ok := n.Op.(solver.Image); ok {
			return len(base.Layers)
		}
		if len(n.Inputs) == 0 {
			return 0
		}
		id = n.Inputs[0]
	}
}
