package explain

import (
	"slices"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// StepOf is the step at this position in the steps of b, as people know it.
func StepOf(b *builds.Build, at int) Step { return describe(b, at) }

// Lookup returns what the report says of a step, if it was executed.
func (r *Report) Lookup(s Step) (Explained, bool) { return r.step(s.Number) }

// Only returns what the report says of one step and of those that its causes are from.
func (r *Report) Only(s Step) *Report {
	one := &Report{Build: r.Build, Executed: r.Executed, Cached: r.Cached, Causes: []Cause{}, Steps: []Explained{}, Notes: r.Notes}
	wanted, causes := map[int]bool{s.Number: true}, map[int]int{}
	for i := len(r.Steps) - 1; i >= 0; i-- { // what a step stands on comes before it
		if x := r.Steps[i]; wanted[x.Number] {
			for _, l := range x.Via {
				wanted[l.Step] = true
			}
		}
	}
	for _, x := range r.Steps {
		if !wanted[x.Number] {
			continue
		}
		x.Causes = slices.Clone(x.Causes)
		for k, c := range x.Causes {
			if _, ok := causes[c]; !ok {
				causes[c] = len(one.Causes)
				one.Causes = append(one.Causes, r.Causes[c])
			}
			x.Causes[k] = causes[c]
		}
		one.Steps = append(one.Steps, x)
	}
	return one
}

// Fate says what became of a step that was not executed.
func Fate(b *builds.Build, s Step) string {
	step := &b.Steps[s.Number-1]
	switch {
	case step.Verdict == solver.VerdictCached && step.From > 0 && step.From <= len(b.Caches):
		return "it was found in the cache " + b.Caches[step.From-1].Name
	case step.Verdict == solver.VerdictCached:
		return "it was found in the cache"
	case step.Verdict == solver.VerdictSource:
		return "there is nothing to execute"
	case b.Status != builds.Succeeded:
		return "the build ended before"
	}
	return "nothing needed it"
}
