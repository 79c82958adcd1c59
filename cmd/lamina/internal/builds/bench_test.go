package builds

import (
	"fmt"
	"testing"
	"time"

	"lamina/solver"
)

// BenchmarkCachedBuild records a build of 20 steps that are all cached, in a store that
// remembers as many builds as it may.
func BenchmarkCachedBuild(b *testing.B) {
	s := openStore(b, b.TempDir())
	g := &solver.Graph{}
	last := g.Add(solver.Node{Op: solver.Image{}})
	var traces []solver.Trace
	for i := range 20 {
		last = g.Add(solver.Node{
			Op: solver.Run{Args: []string{"/bin/sh", "-c", fmt.Sprint("make step", i)}, Env: []string{"PATH=/usr/bin:/bin"}}, Inputs: []solver.ID{last},
			Name: fmt.Sprintf("[%d/20] RUN make step%d", i+1, i), Pos: solver.Pos{File: "Dockerfile", First: i, Last: i},
		})
		key := solver.KeyOf(g.Nodes[last].Op, nil)
		traces = append(traces, solver.Trace{
			Node: last, Verdict: solver.VerdictCached, Inputs: []solver.RecordedInput{{ID: key}}, Whole: key, Narrow: key, Result: key, Took: time.Second,
		})
	}
	record := func() {
		r, err := s.Begin(Build{Context: "/app", Dockerfile: "/app/Dockerfile"})
		if err != nil {
			b.Fatal(err)
		}
		r.Solving(g, []solver.ID{last}, as)
		for _, t := range traces {
			r.Event(solver.Event{Time: time.Now(), Node: t.Node, Status: solver.Cached})
		}
		r.Traced(g, traces, as)
		if err := r.End(Succeeded, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	for range DefaultLimits().Builds {
		record()
	}
	for b.Loop() {
		record()
	}
}
