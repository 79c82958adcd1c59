package explain

import (
	"slices"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// earlier is a build that steps are compared with, or the records of a cache.
type earlier struct {
	*builds.Build
	cache string
	texts map[string]bool
	// kin says that it is of the same thing: of the same context, Dockerfile and
	// targets, or at least of mostly the same instructions.
	same, kin bool
	byID      map[string]int // steps by the identity of their result
}

// candidate is a step of an earlier build.
type candidate struct {
	from *earlier
	at   int
}

func (c candidate) step() *builds.Step { return &c.from.Steps[c.at] }

// near says what c is.
func (c candidate) near() *Near {
	n := &Near{Build: c.from.ID, Cache: c.from.cache, When: c.from.Started, Step: describe(c.from.Build, c.at)}
	if c.from.cache != "" {
		n.Build, n.When = "", c.step().Started
	}
	return n
}

// learn reads what the build can be compared with.
func (e *explainer) learn() {
	e.texts = textsOf(e.build)
	if e.history.Earlier != nil {
		for b := range e.history.Earlier {
			if b.ID < e.build.ID {
				e.earlier = append(e.earlier, e.newEarlier(b, ""))
			}
			if len(e.earlier) == maxEarlier {
				break
			}
		}
	}
	for i, c := range e.build.Caches {
		var records builds.Build
		for _, s := range e.build.Imported {
			if s.From == i+1 {
				records.Steps = append(records.Steps, s)
			}
		}
		if len(records.Steps) > 0 {
			e.earlier = append(e.earlier, e.newEarlier(&records, c.Name))
		}
	}
}

func (e *explainer) newEarlier(b *builds.Build, cache string) *earlier {
	o := &earlier{Build: b, cache: cache, texts: textsOf(b)}
	o.same = cache == "" && b.Context == e.build.Context && b.Dockerfile == e.build.Dockerfile &&
		slices.Equal(b.Targets, e.build.Targets)
	shared := 0
	for text := range e.texts {
		if o.texts[text] {
			shared++
		}
	}
	o.kin = o.same || cache != "" || 2*shared >= len(e.texts)
	return o
}

// textsOf are the instructions of b that do something.
func textsOf(b *builds.Build) map[string]bool {
	texts := map[string]bool{}
	for i := range b.Steps {
		if s := &b.Steps[i]; isWork(s) {
			texts[instruction(s.Name)] = true
		}
	}
	return texts
}

// known tells whether there was a record of s.
func known(s *builds.Step) bool {
	return s.Verdict == solver.VerdictCached || s.Verdict == solver.VerdictExecuted
}

// nearest is the step that differs least from step i, of those that are of the same
// thing if there are any, then of those in caches, then of all others; the latest of
// those that differ equally.
func (e *explainer) nearest(i int) (candidate, bool) {
	type group int
	const groups = 3
	var best [groups]candidate
	least := [groups]int{-1, -1, -1}
	for _, o := range e.earlier {
		g := 2
		if o.same {
			g = 0
		} else if o.cache != "" {
			g = 1
		}
		for at := range o.Steps {
			if !e.comparable(i, candidate{o, at}) {
				continue
			}
			if d := e.distance(i, candidate{o, at}); least[g] < 0 || d < least[g] {
				least[g], best[g] = d, candidate{o, at}
			}
		}
	}
	for g := range groups {
		if least[g] >= 0 {
			return best[g], true
		}
	}
	return candidate{}, false
}

// comparable tells whether c may be what step i was before: it is the same operation
// or the same instruction, or both are the ones in that place that the other build
// does not have.
func (e *explainer) comparable(i int, c candidate) bool {
	s, o := &e.build.Steps[i], c.step()
	if s.Kind != o.Kind || !known(o) || isInternal(s) != isInternal(o) {
		return false
	}
	text, old := instruction(s.Name), instruction(o.Name)
	if string(s.Op) == string(o.Op) || text == old {
		return true
	}
	return c.from.kin && !isInternal(s) && !c.from.texts[text] && !e.texts[old] && e.sameSlot(i, c)
}

// sameSlot tells whether step i stands where c stood: it has its number, or it is,
// among the instructions of its stage that the other build does not have, in the same
// place.
func (e *explainer) sameSlot(i int, c candidate) bool {
	s, o := &e.build.Steps[i], c.step()
	mine, theirs := strangers(e.build, s, c.from.texts), strangers(c.from.Build, o, e.texts)
	if len(mine) == len(theirs) {
		return slices.Index(mine, instruction(s.Name)) == slices.Index(theirs, instruction(o.Name))
	}
	return slot(s.Name) == slot(o.Name)
}

// strangers are the instructions of the kind and the stage of s that are not among
// others.
func strangers(b *builds.Build, s *builds.Step, others map[string]bool) []string {
	var all []string
	for i := range b.Steps {
		o := &b.Steps[i]
		if text := instruction(o.Name); o.Kind == s.Kind && isWork(o) && stage(o.Name) == stage(s.Name) && !others[text] {
			all = append(all, text)
		}
	}
	return all
}

// distance is in how many things step i differs from c.
func (e *explainer) distance(i int, c candidate) int {
	s, o := &e.build.Steps[i], c.step()
	n := len(differences(o, s))
	for j := range s.Inputs {
		if j >= len(o.Inputs) || !sameInput(o.Inputs[j], s.Inputs[j]) {
			n++
		}
	}
	return n
}

// sameInput tells whether a step reads the same of two inputs, as far as is known.
func sameInput(a, b builds.Input) bool {
	if a.Read.Digest != "" && b.Read.Digest != "" {
		return a.Read.Digest == b.Read.Digest
	}
	return a.ID == b.ID || a.ID == "" || b.ID == ""
}
