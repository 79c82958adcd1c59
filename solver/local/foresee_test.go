package local_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/solver"
	"lamina/solver/local"
)

// opens counts which blobs are read.
type opens struct {
	cache.Blobs
	layers, lists atomic.Int32
}

func (o *opens) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.MediaType == layer.InventoryType {
		o.lists.Add(1)
	} else {
		o.layers.Add(1)
	}
	return o.Blobs.Open(ctx, d)
}

// withList is a layer that is elsewhere, with the list that another, which is made of
// name and content, would have.
func withList(t *testing.T, b *bench, l snapshot.Layer, name, content string) snapshot.Layer {
	t.Helper()
	other := newBench(t)
	like := imageLayer(t, other.store, name, content)
	ids, err := other.worker.Unpack(t.Context(), []snapshot.Layer{like}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var list bytes.Buffer
	if err := other.pool.WriteInventory(t.Context(), ids[0], true, &list); err != nil {
		t.Fatal(err)
	}
	d, err := b.store.Ingest(t.Context(), layer.InventoryType, &list)
	if err != nil {
		t.Fatal(err)
	}
	l.List = &d
	return l
}

// copyOf is "COPY --from=… /name /" of a result that is elsewhere.
func copyOf(name string, layers ...snapshot.Layer) solver.Task {
	return solver.Task{
		Node:   solver.Node{Op: solver.Copy{Sources: []solver.CopySource{{Paths: []string{name}}}, Dest: "/"}},
		Inputs: []solver.Result{{}, {ID: digest.FromString("stage"), Layers: layers}},
	}
}

// What is copied from a layer that is elsewhere is identified by its list as it is by
// itself, and the layer is not read for it.
func TestForeseeIsNarrow(t *testing.T) {
	b := newBench(t)
	blobs := &opens{Blobs: b.store}
	b.worker.Blobs = blobs
	l := withList(t, b, imageLayer(t, b.store, "f", "content"), "f", "content")
	task := copyOf("f", l)
	foreseen, ok := b.worker.Foresee(t.Context(), task)
	if !ok || blobs.layers.Load() != 0 {
		t.Fatalf("foreseen %v, %d layers were read", ok, blobs.layers.Load())
	}
	if again, ok := b.worker.Foresee(t.Context(), task); !ok || again[1].Digest != foreseen[1].Digest || blobs.lists.Load() != 1 {
		t.Errorf("%v, %v, the list was read %d times", again, ok, blobs.lists.Load())
	}
	read, err := b.worker.Narrow(t.Context(), task)
	if err != nil || read[1].Digest != foreseen[1].Digest || read[1].Digest == "" {
		t.Errorf("by the list it is %s, and %s, %v", foreseen[1].Digest, read[1].Digest, err)
	}
	// From now on the layer is here, and nobody goes by the list.
	if _, ok := b.worker.Foresee(t.Context(), task); ok {
		t.Error("foreseen although it is here")
	}
	for name, task := range map[string]solver.Task{
		"a file that is not there": copyOf("g", l),
		"no list":                  copyOf("f", imageLayer(t, b.store, "x", "without")),
	} {
		if _, ok := b.worker.Foresee(t.Context(), task); ok {
			t.Errorf("%s: foreseen", name)
		}
	}
}

// A list that says something else than the layer has is found out when the layer is
// unpacked, which is good nevertheless.
func TestFalseList(t *testing.T) {
	for name, say := range map[string][2]string{"content": {"f", "CONTENT"}, "name": {"g", "content"}} {
		b := newBench(t)
		l := withList(t, b, imageLayer(t, b.store, "f", "content"), say[0], say[1])
		task := copyOf(say[0], l)
		if _, ok := b.worker.Foresee(t.Context(), task); !ok {
			t.Fatal("not foreseen")
		}
		_, err := b.worker.Unpack(t.Context(), []snapshot.Layer{l}, nil)
		var lost *local.LayerError
		if !errors.Is(err, local.ErrFalseList) || !errors.As(err, &lost) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := b.worker.Foresee(t.Context(), task); ok {
			t.Errorf("%s: it is still believed", name)
		}
		b.worker.Distrust(lost.Layer)
		if !b.worker.Has(t.Context(), solver.Result{Layers: []snapshot.Layer{l}}) {
			t.Errorf("%s: the layer is lost", name)
		}
	}
	// One that was not gone by does no harm.
	b := newBench(t)
	l := withList(t, b, imageLayer(t, b.store, "f", "content"), "f", "CONTENT")
	if _, err := b.worker.Unpack(t.Context(), []snapshot.Layer{l}, nil); err != nil {
		t.Error(err)
	}
}
