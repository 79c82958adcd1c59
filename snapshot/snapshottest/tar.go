package snapshottest

import (
	"bytes"
	"io"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/layertar"
)

// checkTar compares the stack s with one whose uppermost layer went through a
// tar: applying what was written changes nothing.
func (h *harness) checkTar(s stack) {
	h.Helper()
	if len(s) == 0 {
		return
	}
	below, top := s[:len(s)-1], s[len(s)-1]
	id := h.throughTar(top)
	want, err := h.described(append(below[:len(below):len(below)], top))
	h.must(err)
	got, err := h.described(append(below[:len(below):len(below)], id))
	h.must(err)
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("layer %s (-itself +through a tar):\n%s", top, diff)
	}
	// Who gets the layer's inventory finds nothing else in the layer.
	var inventory bytes.Buffer
	h.must(h.pool.CompleteList(h.Context(), top))
	h.must(h.pool.WriteInventory(h.Context(), top, true, &inventory))
	h.must(h.pool.CheckInventory(h.Context(), id, inventory.Bytes()))
	h.must(h.pool.Remove(id))
}

// throughTar makes a layer from the tar of another.
func (h *harness) throughTar(id snapshot.ID) snapshot.ID {
	h.Helper()
	from, err := h.pool.Open(id)
	h.must(err)
	to, err := h.pool.Draft()
	h.must(err)
	defer to.Close()
	h.must(pipe(h, from, to))
	through := id + "-through-tar"
	h.must(to.Commit(through))
	return through
}

func pipe(h *harness, from *layer.Dir, to *layer.Draft) error {
	r, w := io.Pipe()
	group, ctx := errgroup.WithContext(h.Context())
	group.Go(func() error {
		err := layertar.Write(ctx, w, from, layertar.Options{})
		w.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		err := layertar.Apply(ctx, to, r)
		r.CloseWithError(err)
		return err
	})
	return group.Wait()
}

func (h *harness) described(s stack) ([]string, error) {
	tree, err := h.pool.Stack(s)
	if err != nil {
		return nil, err
	}
	return describe(tree)
}
