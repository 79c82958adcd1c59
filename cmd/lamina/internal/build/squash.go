package build

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// squash makes one layer of those above the lowest keep, and says so in the history
// as docker's --squash does: the entries stay, without their layers, and one with a
// layer is added.
func (b *build) squash(ctx context.Context, out *exporter.Output, keep int) error {
	own := out.Layers[keep:]
	if len(own) < 2 {
		return nil
	}
	merged, err := b.merge(ctx, out.Layers, keep)
	if err != nil {
		return fmt.Errorf("squash: %w", err)
	}
	seen := 0
	for i := range out.Config.History {
		h := &out.Config.History[i]
		if h.EmptyLayer {
			continue
		}
		seen++
		h.EmptyLayer = seen > keep
	}
	comment := fmt.Sprintf("merge of %d layers", len(own))
	out.Config.History = append(out.Config.History, ocispec.History{Created: out.Config.Created, Comment: comment})
	out.Layers = append(out.Layers[:keep:keep], merged)
	return nil
}

// merge returns a layer that makes of the lowest keep layers what all of them make.
// The same layers give the same one.
func (b *build) merge(ctx context.Context, layers []snapshot.Layer, keep int) (snapshot.Layer, error) {
	top, err := b.engine.Tree(ctx, layers)
	if err != nil {
		return snapshot.Layer{}, err
	}
	base, err := b.engine.Tree(ctx, layers[:keep])
	if err != nil {
		return snapshot.Layer{}, err
	}
	merged := snapshot.Layer{ID: mergedID(layers, keep), Created: layers[len(layers)-1].Created}
	if _, err := b.engine.Pool.Open(merged.ID); err == nil {
		return merged, nil
	}
	draft, err := b.engine.Pool.Draft()
	if err != nil {
		return merged, err
	}
	defer draft.Close()
	if err := layer.Diff(ctx, draft, base, top); err != nil {
		return merged, err
	}
	return merged, draft.Commit(merged.ID)
}

// mergedID names the merge of layers above the lowest keep.
func mergedID(layers []snapshot.Layer, keep int) snapshot.ID {
	var names strings.Builder
	for _, l := range layers {
		fmt.Fprintln(&names, l.ID, l.DiffID)
	}
	fmt.Fprintln(&names, keep)
	return snapshot.ID("merged-" + digest.FromString(names.String()).Encoded())
}
