package solver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lamina/cache"
)

var errVersion = errors.New("record of another version")

// attempts is how often a node is tried whose inputs change under it.
const attempts = 3

// Options are a Solve's.
type Options struct {
	Index cache.Index
	// Imports are asked, in this order, for what Index has no usable record of.
	Imports []Records
	// Solved, if set, is told of each node's record that was found or made. It is
	// called from many goroutines at once.
	Solved func(Solved)
	// Traced, if set, is told once, when the solve is over however it ended, what became
	// of each node that the roots need, in the graph's order.
	Traced func([]Trace)
	// Jobs bounds the operations that execute at once; 0 is no bound.
	Jobs int
	// Lock excludes everybody else, in this process and others, who works on the
	// same key; nil if there is nobody else.
	Lock func(ctx context.Context, name string) (unlock func(), err error)
	// Events, if set, is called for each event, one call at a time, and for each
	// node in order. It must not block for long.
	Events func(Event)
}

// Solve computes the results of roots, in order, and of every node that they
// need, each once; it touches no other. What the cache has is needed, but not what
// that was made from (see foresight). Nodes run as soon as their inputs are there.
// For one node, once its inputs have results:
//
//  1. The key over the whole inputs is looked up. A hit touches nothing.
//  2. On a miss, what the node reads of its inputs is identified, and the key
//     over that is looked up. A hit is recorded under both keys.
//  3. Only then it is executed, and recorded under both.
//
// The first failure cancels everything else and is returned, as an *Error.
func Solve(ctx context.Context, g *Graph, roots []ID, w Worker, opt Options) ([]Result, error) {
	s := &solve{graph: g, worker: w, opt: opt, futures: map[ID]*future{}}
	if opt.Jobs > 0 {
		s.slots = make(chan struct{}, opt.Jobs)
	}
	for _, id := range roots {
		s.need(id)
	}
	defer s.trace()
	if err := s.each(ctx, s.foresee); err != nil {
		return nil, err
	}
	for _, id := range roots {
		s.want(id)
	}
	if err := s.each(ctx, s.solve); err != nil {
		return nil, err
	}
	results := make([]Result, len(roots))
	for i, id := range roots {
		results[i] = s.futures[id].result
	}
	return results, nil
}

// Solved is a node and its record, whose inputs are those of this node. The result of
// one that was not needed may be Absent.
type Solved struct {
	Node   ID
	Record *Record
}

type solve struct {
	graph   *Graph
	worker  Worker
	opt     Options
	slots   chan struct{}
	futures map[ID]*future // complete before the first goroutine starts

	eventMu sync.Mutex
}

// future is a node's result, readable once done is closed, and the work on it.
type future struct {
	run
	foresight foresight
	wanted    bool
	done      chan struct{}
	result    Result
}

func (s *solve) need(id ID) {
	if s.futures[id] != nil {
		return
	}
	f := &future{run: run{solve: s, id: id, task: Task{Node: s.graph.Nodes[id]}}, done: make(chan struct{})}
	f.foresight.done = make(chan struct{})
	s.futures[id] = f
	for _, in := range s.graph.Nodes[id].Inputs {
		s.need(in)
	}
}

// each calls do for every node at once, and waits.
func (s *solve) each(ctx context.Context, do func(context.Context, *future) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, f := range s.futures {
		eg.Go(func() error { return do(ctx, f) })
	}
	return eg.Wait()
}

// solve waits for the inputs of a node and finds its result, if it is wanted.
func (s *solve) solve(ctx context.Context, f *future) error {
	if !f.wanted {
		return nil
	}
	if f.foresight.here {
		f.result = f.foresight.result
		close(f.done)
		return nil
	}
	for i, in := range f.task.Node.Inputs {
		select {
		case <-s.futures[in].done:
			f.task.Inputs[i] = s.futures[in].result
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	result, err := f.solveNow(ctx)
	if err != nil {
		return f.failed(ctx, err)
	}
	f.result = result
	close(f.done)
	return nil
}

// solveNow finds the result of a node whose inputs have theirs.
func (f *future) solveNow(ctx context.Context) (Result, error) {
	switch f.task.Node.Op.(type) {
	case Merge:
		return f.merge(), nil
	case HTTP, Git:
		return Result{}, f.foresight.err
	}
	for try := 1; ; try++ {
		res, err := f.find(ctx, try == 1)
		if !errors.Is(err, ErrChanged) || try == attempts {
			return res, err
		}
	}
}

// run is the work on one node.
type run struct {
	*solve
	id      ID
	task    Task
	started bool
	traced  Trace
}

func (r *run) fetch(ctx context.Context, op Op) (Result, error) {
	release, err := r.slot(ctx)
	if err != nil {
		return Result{}, err
	}
	defer release()
	r.start()
	res, err := r.worker.Fetch(ctx, op, r)
	if err == nil {
		r.emit(Event{Status: Done})
	}
	return res, err
}

// find is the two-step lookup of Solve's comment. What the node reads is identified
// anew unless that was done for the foresight, which is good for the first time.
func (f *future) find(ctx context.Context, first bool) (Result, error) {
	whole, hasWhole := f.wholeKey()
	f.traced.Whole = whole
	if hasWhole && !f.task.Node.NoCache {
		if rec := f.lookup(ctx, whole); rec != nil {
			return f.cached(rec), nil
		}
	}
	read := f.foresight.read
	if !first || !f.foresight.narrowed {
		var err error
		if read, err = f.worker.Narrow(ctx, f.task); err != nil {
			return Result{}, err
		}
	}
	key := KeyOf(f.task.Node.Op, f.identities(read))
	f.traced.Narrow = key
	unlock, err := f.lock(ctx, key)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if !f.task.Node.NoCache {
		// Also when whole and key are the same: another process may have
		// executed the node while we waited for the lock.
		if rec := f.lookup(ctx, key); rec != nil {
			if hasWhole && whole != key {
				remember(ctx, f.opt.Index, whole, rec)
			}
			return f.cached(rec), nil
		}
	}
	rec, err := f.execute(ctx, key, read)
	if err != nil {
		return Result{}, err
	}
	remember(ctx, f.opt.Index, key, rec)
	if hasWhole && whole != key {
		remember(ctx, f.opt.Index, whole, rec)
	}
	f.emit(Event{Status: Done})
	return f.solved(rec), nil
}

// cached makes rec, which was remembered, the node's.
func (r *run) cached(rec *Record) Result {
	r.traceHit(rec)
	r.emit(Event{Status: Cached})
	return r.solved(rec)
}

// solved reports the record of the node, as it would be had the node been executed
// now, and returns its result.
func (r *run) solved(rec *Record) Result {
	if r.opt.Solved == nil {
		return rec.Result
	}
	now := *rec
	now.Inputs = slices.Clone(rec.Inputs)
	for i := range min(len(now.Inputs), len(r.task.Inputs)) {
		now.Inputs[i].ID = ""
		if in := r.task.Inputs[i]; !isLive(in) {
			now.Inputs[i].ID = in.ID
		}
	}
	r.opt.Solved(Solved{Node: r.id, Record: &now})
	return rec.Result
}

func (r *run) execute(ctx context.Context, key cache.Key, read []Identity) (*Record, error) {
	release, err := r.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	r.start()
	begin := time.Now()
	layers, err := r.worker.Execute(ctx, r.task, read, r)
	r.traced.Inputs, r.traced.Took = r.inputs(read), time.Since(begin)
	if err != nil {
		return nil, err
	}
	r.traced.Verdict = VerdictExecuted
	id, salt := key, ""
	if _, isRun := r.task.Node.Op.(Run); isRun && r.task.Node.NoCache {
		salt = rand.Text()
		id = salted(key, salt)
	}
	op, err := json.Marshal(r.task.Node.Op)
	if err != nil {
		panic("solver: operation cannot be encoded: " + err.Error())
	}
	return &Record{
		Version: keyVersion, Result: Result{ID: id, Layers: layers},
		Kind: r.task.Node.Op.kind(), Op: op, Name: r.task.Node.Name, Pos: r.task.Node.Pos, Inputs: r.traced.Inputs,
		Created: begin.Add(r.traced.Took).UTC(), Took: r.traced.Took, Salt: salt,
	}, nil
}

// wholeKey is the key over the whole inputs; there is none if one is live.
func (r *run) wholeKey() (cache.Key, bool) {
	for _, in := range r.task.Inputs {
		if isLive(in) {
			return "", false
		}
	}
	return KeyOf(r.task.Node.Op, r.identities(nil)), true
}

func isLive(r Result) bool {
	_, live := r.Source.(Local)
	return live
}

// identities are those of the inputs, narrowed where read says so.
func (r *run) identities(read []Identity) []digest.Digest {
	ids := make([]digest.Digest, len(r.task.Inputs))
	for i, in := range r.task.Inputs {
		ids[i] = in.ID
		if read != nil && read[i].Digest != "" {
			ids[i] = read[i].Digest
		}
	}
	return ids
}

func (r *run) lock(ctx context.Context, key cache.Key) (func(), error) {
	if r.opt.Lock == nil {
		return func() {}, nil
	}
	return r.opt.Lock(ctx, key.String())
}

// slot waits for one of Options.Jobs.
func (r *run) slot(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if r.slots == nil {
		return func() {}, nil
	}
	select {
	case r.slots <- struct{}{}:
		return func() { <-r.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// failed reports err, which ended the node, and says where it came from. What
// ended because something else failed or was cancelled is not the reason.
func (r *run) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if r.started {
			r.traced.Verdict = VerdictCanceled
			r.emit(Event{Status: Canceled, Err: err})
		}
		return context.Cause(ctx)
	}
	if errors.Is(err, ErrChanged) {
		err = fmt.Errorf("%w, %d times in a row: is something writing to it?", err, attempts)
	}
	r.start()
	r.traced.Verdict, r.traced.Err = VerdictFailed, err
	r.emit(Event{Status: Failed, Err: err})
	return &Error{Node: r.task.Node, Err: err}
}

func (r *run) start() {
	if !r.started {
		r.started = true
		r.emit(Event{Status: Started})
	}
}

func (r *run) emit(e Event) {
	if r.opt.Events == nil {
		return
	}
	r.eventMu.Lock()
	defer r.eventMu.Unlock()
	e.Time, e.Node = time.Now(), r.id
	r.opt.Events(e)
}

// Write and Progress make a run the Output of its own execution.

func (r *run) Write(p []byte) (int, error) {
	r.emit(Event{Status: OutputWritten, Log: append([]byte(nil), p...)})
	return len(p), nil
}

func (r *run) Progress(item string, current, total int64) {
	r.emit(Event{Status: Progressed, Item: item, Current: current, Total: total})
}
