// Package local performs layer operations on this machine: the one place where
// blobs, layers, snapshots and the runner meet.
//
// A [Worker] materialises as little as an operation needs. An image's layers are
// fetched and unpacked when the first operation reads or mounts them, each once
// on this machine, in parallel, while they download.
package local

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"lamina/cache"
	"lamina/cache/mounts"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// Config is what a Worker works with.
type Config struct {
	Store *cache.Store
	Blobs cache.Blobs // what is in the store or can be fetched into it
	Pool  *layer.Pool
	// Driver and Runner are asked for when the first RUN needs them; an error
	// says why this machine cannot run anything.
	Driver func() (snapshot.Driver, error)
	Runner func() (runner.Runner, error)

	// Contexts are the trees that Local operations name.
	Contexts map[string]snapshot.Tree
	// Sums identify files.
	Sums fileset.Sums
	// Secret returns the value of a secret; it is fs.ErrNotExist if there is none.
	Secret func(id string) ([]byte, error)
	// SSH returns the agent of this id, "default" usually; it is fs.ErrNotExist if
	// there is none. A nil SSH has none.
	SSH func(id string) (SSHAgent, error)
	// Caches returns the versions of a cache mount that can be had from elsewhere; nil
	// has none.
	Caches func(mounts.Spec) []mounts.Offer
	// HTTP fetches what ADD names.
	HTTP *http.Client
	// Limits bound each RUN, and StepTimeout how long it may take; 0 is for ever.
	Limits      runner.Limits
	StepTimeout time.Duration
}

// Worker implements [solver.Worker].
type Worker struct {
	Config
	has        sync.Map // layers that were seen: nameOf -> struct{}
	distrusted sync.Map // layers that could not be unpacked: nameOf -> struct{}
	lists      sync.Map // of layers that are elsewhere: digest of the list -> *layer.List
}

var _ solver.Worker = (*Worker)(nil)

// New returns a worker. It does nothing yet.
func New(c Config) *Worker {
	if c.HTTP == nil {
		c.HTTP = http.DefaultClient
	}
	return &Worker{Config: c}
}

// Has tells whether every layer of r is here, or can be had again.
func (w *Worker) Has(ctx context.Context, r solver.Result) bool {
	for _, l := range r.Layers {
		key := nameOf(l)
		if _, ok := w.has.Load(key); ok {
			continue
		}
		if !w.available(ctx, l) {
			return false
		}
		w.has.Store(key, struct{}{})
	}
	return true
}

// available tells whether l is unpacked, or its blob is here or known to be elsewhere.
func (w *Worker) available(ctx context.Context, l snapshot.Layer) bool {
	if _, ok := w.find(l); ok {
		return true
	}
	if l.Blob == nil {
		return false
	}
	if _, bad := w.distrusted.Load(nameOf(l)); bad {
		return false
	}
	ok, err := w.Blobs.Has(ctx, *l.Blob)
	return err == nil && ok
}

// Narrow identifies what t reads: of a COPY the selected files, of a RUN the
// parts that its bind mounts show.
func (w *Worker) Narrow(ctx context.Context, t solver.Task) ([]solver.Identity, error) {
	switch op := t.Node.Op.(type) {
	case solver.Copy:
		return w.narrowCopy(ctx, t, op)
	case solver.Run:
		return w.narrowRun(ctx, t, op)
	}
	return nil, nil
}

// Execute performs t.
func (w *Worker) Execute(ctx context.Context, t solver.Task, read []solver.Identity, out solver.Output) ([]snapshot.Layer, error) {
	switch op := t.Node.Op.(type) {
	case solver.Mkdir:
		return w.mkdir(ctx, t, op, out)
	case solver.Copy:
		return w.copy(ctx, t, op, read, out)
	case solver.Run:
		return w.run(ctx, t, op, out)
	}
	return nil, fmt.Errorf("cannot execute %T", t.Node.Op)
}

// Fetch gets a live source from elsewhere.
func (w *Worker) Fetch(ctx context.Context, op solver.Op, out solver.Output) (solver.Result, error) {
	switch op := op.(type) {
	case solver.HTTP:
		return w.http(ctx, op, out)
	case solver.Git:
		return w.git(ctx, op)
	}
	return solver.Result{}, fmt.Errorf("cannot fetch %T", op)
}

// newID names a layer that is made here. A layer's ID is never used again, so a
// step that is executed twice makes two layers, and what stands on the first
// can never be taken for standing on the second.
func newID() snapshot.ID { return snapshot.ID(strings.ToLower(rand.Text())) }

// onTop is the layers of base with the new layer id above them.
func onTop(base solver.Result, id snapshot.ID) []snapshot.Layer {
	layers := make([]snapshot.Layer, 0, len(base.Layers)+1)
	layers = append(layers, base.Layers...)
	return append(layers, snapshot.Layer{ID: id, Created: now()})
}

// now is the time to the second, as far as images tell it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
