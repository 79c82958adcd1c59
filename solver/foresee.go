package solver

import (
	"context"
	"path"

	"lamina/snapshot"
)

// Before anything is executed, nodes are identified as far as that is possible: the
// identity of a result follows from the operation and the identities of what it
// reads, whether or not the result is there. So a step is found in the cache although
// what it stands on is not: an image that was pushed with the cache of its own
// steps is cached as a whole, and the stages that it copied from are not built again.
//
// What is not foreseen is solved as if nobody had tried.

// foresight is what is known of a node before anything is executed.
type foresight struct {
	done   chan struct{} // closed when the rest is there
	known  bool          // the identity is known
	here   bool          // and so is the result
	result Result        // its ID if known, all of it if here
	err    error         // why it could not be fetched
	// read is what Narrow said, if it was asked.
	read     []Identity
	narrowed bool
}

// foresee waits until the inputs are foreseen, and does it for this node.
func (s *solve) foresee(ctx context.Context, f *future) error {
	defer close(f.foresight.done)
	inputs := s.graph.Nodes[f.id].Inputs
	known := true
	f.task.Inputs = make([]Result, len(inputs))
	for i, in := range inputs {
		below := &s.futures[in].foresight
		select {
		case <-below.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		f.task.Inputs[i] = below.result
		known = known && below.known
	}
	if known {
		f.identify(ctx)
	}
	return ctx.Err()
}

// identify identifies a node all of whose inputs are.
func (f *future) identify(ctx context.Context) {
	switch op := f.task.Node.Op.(type) {
	case Image, Local, Inline:
		f.found(f.source(op))
	case Merge:
		f.found(f.merge())
		for _, in := range f.task.Node.Inputs {
			f.foresight.here = f.foresight.here && f.futures[in].foresight.here
		}
	case HTTP, Git:
		result, err := f.fetch(ctx, op)
		if f.foresight.err = err; err == nil {
			f.found(result)
		}
	default:
		if !f.task.Node.NoCache {
			f.lookAhead(ctx)
		}
	}
}

func (f *future) found(r Result) {
	f.foresight.known, f.foresight.here, f.foresight.result = true, true, r
}

// lookAhead looks an operation up, unless that takes contents that are not known.
func (f *future) lookAhead(ctx context.Context) {
	whole, hasWhole := f.wholeKey()
	f.traced.Whole = whole
	if hasWhole {
		rec, usable := f.recall(ctx, whole)
		if usable {
			f.hit(rec)
			return
		}
		if rec != nil { // tells the identity, though its result is gone
			f.foresight.known, f.foresight.result = true, Result{ID: f.solved(rec).ID}
			return
		}
	}
	if f.readsResults() {
		f.lookByLists(ctx)
		return
	}
	read, err := f.worker.Narrow(ctx, f.task)
	if err != nil {
		return // it will be told when its turn has come
	}
	f.foresight.read, f.foresight.narrowed = read, true
	key := KeyOf(f.task.Node.Op, f.identities(read))
	f.traced.Narrow = key
	if rec, usable := f.recall(ctx, key); usable {
		if hasWhole && whole != key {
			remember(ctx, f.opt.Index, whole, rec)
		}
		f.hit(rec)
		return
	}
	f.foresight.known, f.foresight.result = true, Result{ID: key}
}

// lookByLists looks up an operation that reads parts of other results, by what is said
// of these without their being here. Nobody has verified that, so a hit is not
// remembered under the keys of the whole inputs, and what is not found may still be
// once they are here.
func (f *future) lookByLists(ctx context.Context) {
	w, ok := f.worker.(Foreseer)
	if !ok {
		return
	}
	for i, in := range f.task.Node.Inputs {
		if narrows(f.task.Node.Op, i) && !f.futures[in].foresight.here {
			return
		}
	}
	read, ok := w.Foresee(ctx, f.task)
	if !ok {
		return
	}
	key := KeyOf(f.task.Node.Op, f.identities(read))
	if rec, usable := f.recall(ctx, key); usable {
		f.hit(rec)
	}
}

func (f *future) hit(rec *Record) { f.found(f.cached(rec)) }

// readsResults tells whether Narrow would have to read what another operation made.
func (f *future) readsResults() bool {
	for i, in := range f.task.Node.Inputs {
		if !narrows(f.task.Node.Op, i) {
			continue
		}
		switch f.graph.Nodes[in].Op.(type) {
		case Local, Inline, HTTP, Git:
		default:
			return true
		}
	}
	return false
}

// narrows tells whether op may read a part of its input number i only.
func narrows(op Op, i int) bool {
	switch op := op.(type) {
	case Copy:
		return i > 0
	case Run:
		for _, m := range op.Mounts {
			if m.Type == MountBind && m.Input == i && i > 0 && path.Join("/", m.Source) != "/" {
				return true
			}
		}
	}
	return false
}

// want marks the nodes that have to be solved for this one to be.
func (s *solve) want(id ID) {
	f := s.futures[id]
	if f.wanted {
		return
	}
	f.wanted = true
	if f.foresight.here {
		return
	}
	for _, in := range s.graph.Nodes[id].Inputs {
		s.want(in)
	}
}

// source is the result of an operation that takes none to be had.
func (r *run) source(op Op) Result {
	if image, ok := op.(Image); ok {
		id := image.Digest
		if id == "" {
			id = KeyOf(image, nil)
		}
		return Result{ID: id, Layers: image.Layers}
	}
	return Result{ID: KeyOf(op, nil), Source: op}
}

// merge is the result of a Merge.
func (r *run) merge() Result {
	var layers []snapshot.Layer
	for _, in := range r.task.Inputs {
		layers = append(layers, in.Layers...)
	}
	return Result{ID: KeyOf(r.task.Node.Op, r.identities(nil)), Layers: layers}
}
