package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// maxList is how large a list of a layer may be that is read into memory, in bytes.
const maxList = 8 << 20

// ErrFalseList reports a layer that is good, but came with a list of other files than it
// has. What was found by that list was not what was asked for.
var ErrFalseList = errors.New("the list of files that came with the layer is not true")

// Foresee identifies what t reads of results whose layers are elsewhere, by the lists
// that came with them.
func (w *Worker) Foresee(ctx context.Context, t solver.Task) ([]solver.Identity, bool) {
	read := make([]solver.Identity, len(t.Inputs))
	listed := false
	identify := func(i int, q fileset.Query, opt fileset.DigestOptions) bool {
		tree, byLists, ok := w.foreseen(ctx, t.Inputs[i])
		if !ok {
			return false
		}
		var sums fileset.Sums = w.Sums
		if stack, isStack := tree.(*layer.Stack); byLists && isStack {
			sums = listedSums{stack, w.Sums}
		}
		id, err := identifyIn(ctx, tree, sums, q, opt)
		if err != nil {
			return false // it will be told when its turn has come
		}
		id.Memo = nil
		listed = listed || byLists
		read[i] = combine(read[i], id)
		return true
	}
	switch op := t.Node.Op.(type) {
	case solver.Copy:
		for i, src := range op.Sources {
			if !identify(i+1, query(src), counted(op, src)) {
				return nil, false
			}
		}
	case solver.Run:
		for _, m := range op.Mounts {
			if m.Type == solver.MountBind && m.Input != 0 && relative(m.Source) != "." &&
				!identify(m.Input, fileset.Query{Paths: []string{literal(m.Source)}}, fileset.DigestOptions{}) {
				return nil, false
			}
		}
	}
	return read, listed
}

// foreseen is what in stands for, without anything being fetched but lists; byLists
// tells whether these took the place of layers.
func (w *Worker) foreseen(ctx context.Context, in solver.Result) (tree snapshot.Tree, byLists, ok bool) {
	if in.Source != nil {
		tree, err := w.tree(ctx, in, nil)
		return tree, false, err == nil
	}
	parts := make([]layer.Part, len(in.Layers))
	for i, l := range in.Layers {
		if id, here := w.find(l); here {
			dir, err := w.Pool.Open(id)
			if err != nil {
				return nil, false, false
			}
			parts[i] = dir
		} else if l.List == nil {
			return nil, false, false
		}
	}
	for i, l := range in.Layers {
		if parts[i] != nil {
			continue
		}
		list, err := w.loadList(ctx, *l.List)
		if err != nil {
			return nil, false, false
		}
		parts[i], byLists = list, true
	}
	return layer.NewStack(parts), byLists, true
}

// loadList returns a list of a layer, which is fetched once.
func (w *Worker) loadList(ctx context.Context, d ocispec.Descriptor) (*layer.List, error) {
	if l, ok := w.lists.Load(d.Digest); ok {
		return l.(*layer.List), nil //nolint:forcetypeassert // nothing else is put there
	}
	data, err := w.readList(ctx, d)
	if err != nil {
		return nil, err
	}
	l, err := layer.LoadList(data)
	if err == nil {
		w.lists.Store(d.Digest, l)
	}
	return l, err
}

func (w *Worker) readList(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxList {
		return nil, fmt.Errorf("list %s of %d bytes is too large", d.Digest, d.Size)
	}
	blob, err := w.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob)
}

// checkList tells whether the list that came with a layer, which is now unpacked as
// id, is true. One that cannot be read has not been used either.
func (w *Worker) checkList(ctx context.Context, l snapshot.Layer, id snapshot.ID) error {
	if l.List == nil {
		return nil
	}
	if _, used := w.lists.Load(l.List.Digest); !used {
		return nil
	}
	data, err := w.readList(ctx, *l.List)
	if err != nil {
		return err
	}
	if err := w.Pool.CheckInventory(ctx, id, data); err != nil {
		return fmt.Errorf("%w: %w", ErrFalseList, err)
	}
	return nil
}

// listedSums are the sums of files of a stack, of which some are only listed.
type listedSums struct {
	stack *layer.Stack
	here  fileset.Sums
}

// Sum implements [fileset.Sums].
func (s listedSums) Sum(ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, error) {
	content, err := s.stack.ContentDigest(name)
	if err != nil {
		return "", err
	}
	if content == "" {
		return s.here.Sum(ctx, t, name, e)
	}
	xattrs, err := t.Xattrs(name)
	if err != nil {
		return "", err
	}
	return fileset.SumOf(content, xattrs), nil
}
