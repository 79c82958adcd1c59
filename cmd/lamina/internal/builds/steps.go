package builds

import (
	"encoding/json"

	"lamina/solver"
)

// Steps describes the nodes of g that a solve told of. From of a step is a position
// in the solve's imports; which of the build's caches that is, the caller knows.
// redact hides what nobody may see of a URL.
func Steps(g *solver.Graph, traces []solver.Trace, redact func(string) string) []Step {
	at := map[solver.ID]int{}
	steps := make([]Step, len(traces))
	for i, t := range traces {
		at[t.Node] = i
		n := g.Nodes[t.Node]
		s := Step{
			Name: n.Name, Pos: n.Pos, Kind: solver.KindOf(n.Op), Op: operation(n.Op, redact), Uses: n.Uses, NoCache: n.NoCache,
			Whole: t.Whole, Narrow: t.Narrow, ID: t.Result,
			Verdict: t.Verdict, From: t.From, Lost: t.Lost, Absent: t.Absent, Took: t.Took,
		}
		if t.Err != nil {
			s.Error = t.Err.Error()
		}
		for j, in := range t.Inputs {
			s.Inputs = append(s.Inputs, Input{Step: at[n.Inputs[j]], ID: in.ID, Read: in.Read})
		}
		steps[i] = s
	}
	return steps
}

// operation is op without what is a secret, or long and known by other means.
func operation(op solver.Op, redact func(string) string) json.RawMessage {
	switch o := op.(type) {
	case solver.Image:
		o.Layers = nil
		op = o
	case solver.HTTP:
		o.URL = redact(o.URL)
		op = o
	case solver.Git:
		o.Remote = redact(o.Remote)
		op = o
	}
	data, err := json.Marshal(op)
	if err != nil {
		panic("builds: operation cannot be encoded: " + err.Error())
	}
	return data
}
