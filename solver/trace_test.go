package solver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot"
)

// traced is a solve's traces by what their nodes do.
func traced(t *testing.T, g *Graph, roots []ID, w Worker, opt Options) (map[string]Trace, error) {
	t.Helper()
	all, called := map[string]Trace{}, 0
	opt.Traced = func(traces []Trace) {
		called++
		for _, tr := range traces {
			name := KindOf(g.Nodes[tr.Node].Op)
			if label, _ := labelOf(g.Nodes[tr.Node].Op); label != "?" {
				name = label
			}
			all[name] = tr
		}
	}
	_, _, err := timed(t, g, roots, w, opt)
	if called != 1 {
		t.Fatalf("told %d times", called)
	}
	return all, err
}

func verdicts(traces map[string]Trace) map[string]Verdict {
	all := map[string]Verdict{}
	for name, tr := range traces {
		all[name] = tr.Verdict
	}
	return all
}

// Each trace has what its node's key was made of, and so do those of cached nodes.
func TestTraceTellsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index := &memoryIndex{}
		w := &fakeWorker{content: map[string]string{"context": "one"}}
		build := func() (*Graph, map[string]Trace) {
			var g Graph
			src := copyFrom(&g, scratch(&g), g.Add(Node{Op: Local{Name: "context"}, Name: "CONTEXT"}), "/src")
			sleep(&g, scratch(&g), "unused", "1s")
			traces, err := traced(t, &g, []ID{sleep(&g, src, "make", "3s")}, w, Options{Index: index})
			if err != nil {
				t.Fatal(err)
			}
			return &g, traces
		}
		g, first := build()
		want := map[string]Verdict{
			"image": VerdictSource, "local": VerdictSource, "copy /src": VerdictExecuted, "make 3s": VerdictExecuted,
		}
		if diff := cmp.Diff(want, verdicts(first)); diff != "" {
			t.Error(diff)
		}
		read := digest.FromString("one")
		cp, run, base := first["copy /src"], first["make 3s"], first["image"]
		op := g.Nodes[cp.Node].Op
		if diff := cmp.Diff(Trace{
			Node: cp.Node, Verdict: VerdictExecuted, Took: time.Second,
			Inputs: []RecordedInput{{Name: "scratch", ID: base.Result},
				{Name: "CONTEXT", Read: Identity{Digest: read, Parts: []ocispec.Descriptor{{Digest: read}}}}},
			Narrow: KeyOf(op, []digest.Digest{base.Result, read}), Result: KeyOf(op, []digest.Digest{base.Result, read}),
		}, cp); diff != "" {
			t.Error(diff)
		}
		if run.Whole == "" || run.Whole != run.Narrow || run.Inputs[0].ID != cp.Result || run.Took != 3*time.Second {
			t.Errorf("traced %+v", run)
		}

		// What is cached is told of in the same words.
		_, second := build()
		want["copy /src"], want["make 3s"] = VerdictCached, VerdictCached
		if diff := cmp.Diff(want, verdicts(second)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(first, second, cmpopts.IgnoreFields(Trace{}, "Verdict")); diff != "" {
			t.Error(diff)
		}
	})
}

// A node whose record is of no use is told from one without a record.
func TestTraceTellsWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index, there := &memoryIndex{}, &memoryIndex{}
		w := &fakeWorker{lost: map[snapshot.ID]bool{}}
		var g Graph
		end := sleep(&g, scratch(&g), "make", "1s")
		build := func(imports ...Records) Trace {
			all, err := traced(t, &g, []ID{end}, w, Options{Index: index, Imports: imports})
			if err != nil {
				t.Fatal(err)
			}
			return all["make 1s"]
		}
		if tr := build(); tr.Verdict != VerdictExecuted || tr.Lost || tr.Absent {
			t.Errorf("never built: %+v", tr)
		}
		there, index = index, there
		if tr := build(&memoryIndex{}, there); tr.Verdict != VerdictCached || tr.From != 2 {
			t.Errorf("in the second import: %+v", tr)
		}
		if tr := build(&memoryIndex{}, there); tr.Verdict != VerdictCached || tr.From != 0 {
			t.Errorf("learned: %+v", tr)
		}
		w.lost["make 1s-1"] = true
		if tr := build(); tr.Verdict != VerdictExecuted || !tr.Lost || tr.Absent {
			t.Errorf("its layer is gone: %+v", tr)
		}
		for k, data := range index.m {
			rec, err := DecodeRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			index = &memoryIndex{}
			remember(t.Context(), index, k, rec.identity())
		}
		if tr := build(); tr.Verdict != VerdictExecuted || tr.Lost || !tr.Absent {
			t.Errorf("only its identity is known: %+v", tr)
		}
	})
}

func TestTraceOfWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		bad := sleep(&g, scratch(&g), "bad", "2s")
		quick := sleep(&g, scratch(&g), "quick", "1s")
		slow := sleep(&g, quick, "slow", "9h")
		after := sleep(&g, bad, "after", "1s")
		boom := errors.New("exit code 2")
		all, err := traced(t, &g, []ID{after, slow}, &fakeWorker{fail: map[string]error{"bad 2s": boom}}, Options{})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]Verdict{
			"image": VerdictSource, "bad 2s": VerdictFailed, "quick 1s": VerdictExecuted,
			"slow 9h": VerdictCanceled, "after 1s": VerdictUnneeded,
		}, verdicts(all)); diff != "" {
			t.Error(diff)
		}
		if tr := all["bad 2s"]; tr.Whole == "" || tr.Narrow == "" || tr.Inputs[0].ID != all["image"].Result || tr.Took != 2*time.Second || !errors.Is(tr.Err, boom) {
			t.Errorf("traced %+v", tr)
		}
	})
}

// A solve that is canceled before anything began tells of its nodes all the same.
func TestTraceOfWhatWasCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		end := sleep(&g, scratch(&g), "make", "1s")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var got []Verdict
		_, err := Solve(ctx, &g, []ID{end}, &fakeWorker{}, Options{Index: &memoryIndex{}, Traced: func(all []Trace) {
			for _, tr := range all {
				got = append(got, tr.Verdict)
			}
		}})
		if !errors.Is(err, context.Canceled) || len(got) != 2 || got[1] != VerdictUnneeded {
			t.Errorf("%v, verdicts %v", err, got)
		}
	})
}
