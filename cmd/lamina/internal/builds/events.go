package builds

import (
	"slices"
	"time"

	"lamina/solver"
)

// Describe changes what is known of the build as a whole.
func (r *Recording) Describe(change func(b *Build)) { r.change(change) }

// Warn adds a warning.
func (r *Recording) Warn(text string) {
	r.change(func(b *Build) { b.Warnings = append(b.Warnings, text) })
}

// Solving says which operations of g the build consists of: those that roots need.
// What becomes of them is told by [Recording.Event] and, in the end,
// [Recording.Traced]. redact is as for [Steps].
func (r *Recording) Solving(g *solver.Graph, roots []solver.ID, redact func(string) string) {
	r.change(func(b *Build) {
		traces := pending(g, roots)
		b.Steps = Steps(g, traces, redact)
		r.steps = map[solver.ID]int{}
		for i, t := range traces {
			r.steps[t.Node] = i
		}
	})
}

// pending are the traces of what roots need, in the graph's order, before anything
// is known.
func pending(g *solver.Graph, roots []solver.ID) []solver.Trace {
	needed := make([]bool, len(g.Nodes))
	for _, id := range roots {
		needed[id] = true
	}
	var all []solver.Trace
	for id := len(g.Nodes) - 1; id >= 0; id-- { // what needs a node comes after it
		if !needed[id] {
			continue
		}
		inputs := g.Nodes[id].Inputs
		for _, in := range inputs {
			needed[in] = true
		}
		all = append(all, solver.Trace{Node: solver.ID(id), Verdict: Pending, Inputs: make([]solver.RecordedInput, len(inputs))})
	}
	slices.Reverse(all)
	return all
}

// Event says what happened to a step.
func (r *Recording) Event(e solver.Event) {
	switch {
	case r == nil || e.Status == solver.Progressed:
	case e.Status == solver.OutputWritten:
		r.printed(e)
	default:
		r.change(func(b *Build) {
			if i, ok := r.steps[e.Node]; ok {
				b.Steps[i].happened(e)
			}
			if e.Status == solver.Started && time.Since(r.saved) >= saveShare*r.cost {
				_ = r.save() // before it prints, so that who follows knows what that is
			}
		})
	}
}

func (s *Step) happened(e solver.Event) {
	switch e.Status {
	case solver.Started:
		s.Verdict, s.Started, s.Took, s.Error = Executing, e.Time.UTC(), 0, ""
		return
	case solver.Cached:
		// A solve that began again finds what it executed before.
		if s.Verdict != solver.VerdictExecuted {
			s.Verdict, s.Started = solver.VerdictCached, e.Time.UTC()
		}
		return
	case solver.Done:
		s.Verdict = solver.VerdictExecuted
	case solver.Failed:
		s.Verdict = solver.VerdictFailed
		if e.Err != nil {
			s.Error = e.Err.Error()
		}
	case solver.Canceled:
		s.Verdict = solver.VerdictCanceled
	}
	s.Took = max(0, e.Time.Sub(s.Started))
}

// Traced says what became of the nodes of g, once that is known. Of what was executed
// it takes as long as the events said, and has printed what they said.
func (r *Recording) Traced(g *solver.Graph, traces []solver.Trace, redact func(string) string) {
	r.change(func(b *Build) {
		steps := Steps(g, traces, redact)
		for i, t := range traces {
			at, ok := r.steps[t.Node]
			if !ok {
				continue
			}
			told := b.Steps[at]
			s := &steps[i]
			s.Started, s.Log = told.Started, told.Log
			if told.Took > 0 {
				s.Took = told.Took
			}
			if told.Verdict == solver.VerdictExecuted && s.Verdict == solver.VerdictCached {
				s.Verdict = told.Verdict
			}
		}
		b.Steps = steps
	})
}

// Phase says that something begins that is no step, and returns its number.
func (r *Recording) Phase(name string, at time.Time) int {
	i := 0
	r.change(func(b *Build) {
		i = len(b.Phases)
		b.Phases = append(b.Phases, Phase{Name: name, Started: at.UTC(), Status: Running})
	})
	return i
}

// PhaseSaid adds a line of text that phase number i said.
func (r *Recording) PhaseSaid(i int, line string) {
	r.change(func(b *Build) { b.Phases[i].Said = append(b.Phases[i].Said, line) })
}

// EndPhase says how phase number i ended.
func (r *Recording) EndPhase(i int, at time.Time, status Status, err error) {
	r.change(func(b *Build) {
		p := &b.Phases[i]
		p.Status, p.Took = status, max(0, at.Sub(p.Started))
		if err != nil {
			p.Error = err.Error()
		}
	})
}

// printed adds what a step printed to the log. That is no change that has to be saved.
func (r *Recording) printed(e solver.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.steps[e.Node]
	if r.over || !ok {
		return
	}
	r.build.Steps[i].Log += int64(len(e.Log))
	r.log.write(i, max(0, e.Time.Sub(r.build.Started)), e.Log)
	if r.log.err != nil {
		r.build.LogEnds = r.log.err.Error()
	}
}
