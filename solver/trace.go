package solver

import (
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
)

// Trace is what became of a node, and what its key was made of as far as the solve
// came to know that. It is what it takes to explain, later, why a node was executed.
type Trace struct {
	Node    ID
	Verdict Verdict
	// From is where a cached result was found: a position in Options.Imports counted
	// from 1, or 0 for Options.Index.
	From int
	// Lost says that the node was remembered, but that its layers are gone; Absent that
	// a cache told its identity alone.
	Lost, Absent bool

	// Inputs has an entry for each of the node's inputs, as far as they are known.
	Inputs []RecordedInput
	// Whole is the key over the whole inputs, Narrow that over what is read of them;
	// empty if it was not asked for.
	Whole, Narrow cache.Key
	// Result is the identity of the result, once that is known. It may be known of a
	// node that was not needed.
	Result digest.Digest
	// Took is how long the result took to make: now, or, of one that is remembered, then.
	Took time.Duration
	// Err is why it failed.
	Err error
}

// Verdict is what became of a node.
type Verdict string

// The verdicts.
const (
	// VerdictSource is of what is no work: a base image, the build context, a
	// here-document, a merge; and of what was fetched from elsewhere.
	VerdictSource Verdict = "source"
	// VerdictCached is of a result that was remembered.
	VerdictCached Verdict = "cached"
	// VerdictExecuted is of a node that was not remembered.
	VerdictExecuted Verdict = "executed"
	// VerdictFailed is of a node that failed.
	VerdictFailed Verdict = "failed"
	// VerdictCanceled is of one that was being executed when the solve ended.
	VerdictCanceled Verdict = "canceled"
	// VerdictUnneeded is of one that was not executed and whose result was not looked
	// for: nothing needed it, or the solve ended before.
	VerdictUnneeded Verdict = "unneeded"
)

// Ran tells whether the node was executed, to its end or not.
func (v Verdict) Ran() bool {
	return v == VerdictExecuted || v == VerdictFailed || v == VerdictCanceled
}

// trace tells Options.Traced of all nodes. Nobody may be working on any of them.
func (s *solve) trace() {
	if s.opt.Traced == nil {
		return
	}
	var all []Trace
	for id := range s.graph.Nodes {
		if f := s.futures[ID(id)]; f != nil {
			all = append(all, f.trace())
		}
	}
	s.opt.Traced(all)
}

// trace is what became of f.
func (f *future) trace() Trace {
	t := f.traced
	t.Node = f.id
	switch f.task.Node.Op.(type) {
	case Image, Local, Inline, Merge, HTTP, Git:
		if t.Verdict == "" && (f.foresight.known || f.result.ID != "") {
			t.Verdict = VerdictSource
		}
	}
	if t.Verdict == "" {
		t.Verdict = VerdictUnneeded
	}
	if t.Result == "" {
		t.Result = f.foresight.result.ID
	}
	if f.result.ID != "" {
		t.Result = f.result.ID
	}
	if t.Inputs == nil {
		t.Inputs = f.inputs(f.foresight.read)
	}
	return t
}

// inputs describes the inputs of the node, of which it reads what read says.
func (r *run) inputs(read []Identity) []RecordedInput {
	var all []RecordedInput
	for i, in := range r.task.Node.Inputs {
		ri := RecordedInput{Name: r.graph.Nodes[in].Name}
		if i < len(r.task.Inputs) && !isLive(r.task.Inputs[i]) {
			ri.ID = r.task.Inputs[i].ID
		}
		if read != nil {
			ri.Read = read[i]
			ri.Read.Memo = nil
		}
		all = append(all, ri)
	}
	return all
}

// traceHit notes that rec is the result; where it was found is noted already.
func (r *run) traceHit(rec *Record) {
	t := &r.traced
	t.Verdict, t.Result, t.Took, t.Lost, t.Absent = VerdictCached, rec.Result.ID, rec.Took, false, false
	t.Narrow = rec.Result.ID
	if rec.Salt != "" {
		t.Narrow, _ = rec.Keys()
	}
	t.Inputs = r.inputs(nil)
	for i := range min(len(t.Inputs), len(rec.Inputs)) {
		t.Inputs[i].Read = rec.Inputs[i].Read
	}
}
