package explain

import (
	"cmp"
	"fmt"
	"slices"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// report says what was found out.
func (e *explainer) report() *Report {
	r := &Report{Build: e.build.ID, failed: e.build.Status != builds.Succeeded, Causes: []Cause{}, Steps: []Explained{}}
	for i := range e.build.Steps {
		s := &e.build.Steps[i]
		switch {
		case !isWork(s):
		case ran(s):
			r.Executed++
		case s.Verdict == solver.VerdictCached:
			r.Cached++
		}
	}
	order := e.order()
	for i := range e.build.Steps {
		why := e.reasons[i]
		if why == nil || !isWork(&e.build.Steps[i]) {
			continue
		}
		x := Explained{Step: e.step(i), Near: why.near, Via: e.visible(i, why.via)}
		for _, c := range why.causes {
			x.Causes = append(x.Causes, order[c])
			e.causes[c].Executed = append(e.causes[c].Executed, x.Step)
		}
		slices.Sort(x.Causes)
		r.Steps = append(r.Steps, x)
	}
	r.Causes = make([]Cause, len(e.causes))
	for i, c := range e.causes {
		c.Text = c.sentence(e.now())
		r.Causes[order[i]] = *c
	}
	r.dropUnused()
	if len(r.Steps) > 0 {
		r.Notes = e.notes()
	}
	return r
}

// dropUnused removes the causes that made only steps be executed that nobody sees.
func (r *Report) dropUnused() {
	at, kept := make([]int, len(r.Causes)), []Cause{}
	for i, c := range r.Causes {
		at[i] = len(kept)
		if len(c.Executed) > 0 {
			kept = append(kept, c)
		}
	}
	r.Causes = kept
	for _, x := range r.Steps {
		for k, i := range x.Causes {
			x.Causes[k] = at[i]
		}
	}
}

// order says where each cause comes in the report: in the order of the steps where
// they are.
func (e *explainer) order() []int {
	sorted := make([]int, len(e.causes))
	for i := range sorted {
		sorted[i] = i
	}
	slices.SortStableFunc(sorted, func(a, b int) int { return cmp.Compare(e.causes[a].Step.Number, e.causes[b].Step.Number) })
	at := make([]int, len(sorted))
	for place, i := range sorted {
		at[i] = place
	}
	return at
}

// visible are those of the links of step i that lead to steps that people know as
// others.
func (e *explainer) visible(i int, via []Link) []Link {
	var all []Link
	for _, l := range via {
		if l.Step != i+1 && !slices.ContainsFunc(all, func(o Link) bool { return o.Step == l.Step }) {
			all = append(all, l)
		}
	}
	return all
}

// notes say which caches could not help, and why.
func (e *explainer) notes() []string {
	var all []string
	for _, c := range e.build.Caches {
		switch {
		case c.Error != "":
			all = append(all, c.Error)
		case c.Steps == 0:
			all = append(all, fmt.Sprintf("the cache %s is empty", c.Name))
		}
	}
	return all
}
