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
	// apart is how many instructions only one of the two builds has.
	apart int
	byID  map[string]int // steps by the identity of their result
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
			// What ended later may not have been over when this was asked first.
			if b.ID < e.build.ID && !b.Ended.IsZero() && b.Ended.Before(e.build.Ended) {
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
	e.closest = map[int]int{}
	for _, o := range e.earlier {
		if least, ok := e.closest[o.group()]; !ok || o.apart < least {
			e.closest[o.group()] = o.apart
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
	o.apart = len(e.texts) + len(o.texts) - 2*shared
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

// group orders what steps are compared with: builds of the same thing, caches, other
// builds.
func (o *earlier) group() int {
	switch {
	case o.same:
		return 0
	case o.cache != "":
		return 1
	}
	return 2
}

// comparable tells whether c may be what step i was before: it is the same operation
// or the same instruction, or both are the ones in that place that the other build
// does not have. The latter only counts in the builds that are closest to this one.
func (e *explainer) comparable(i int, c candidate) bool {
	s, o := &e.build.Steps[i], c.step()
	if s.Kind != o.Kind || !known(o) || isInternal(s) != isInternal(o) {
		return false
	}
	text, old := instruction(s.Name), instruction(o.Name)
	if string(s.Op) == string(o.Op) || text == old {
		return true
	}
	return c.from.kin && c.from.apart == e.closest[c.from.group()] && !isInternal(s) &&
		!c.from.texts[text] && !e.texts[old] && e.sameSlot(i, c)
}

// sameSlot tells whether step i stands where c stood: it has its number, or it is,
// among the instructions of its stage that the other build does not have, in the same
// place.
func (e *explainer) sameSlot(i int, c candidate) bool {
	s, o := &e.build.Steps[i], c.step()
	if c.from.cache != "" { // has the steps of many builds
		return slot(s.Name) == slot(o.Name)
	}
	a, b := stage(s.Name), stage(o.Name)
	alone := a != b && len(stages(e.build)) == 1 && len(stages(c.from.Build)) == 1 // what has no mount may have no name
	if a != b && !alone && (stages(c.from.Build)[a] || stages(e.build)[b]) {
		return false
	}
	mine, theirs := strangers(e.build, s, c.from.texts), strangers(c.from.Build, o, e.texts)
	if len(mine) == len(theirs) {
		return slices.Index(mine, instruction(s.Name)) == slices.Index(theirs, instruction(o.Name))
	}
	if alone {
		return number(s.Name) == number(o.Name)
	}
	return slot(s.Name) == slot(o.Name)
}

// stages are the names of the stages of b that do something.
func stages(b *builds.Build) map[string]bool {
	all := map[string]bool{}
	for i := range b.Steps {
		if s := &b.Steps[i]; isWork(s) {
			all[stage(s.Name)] = true
		}
	}
	return all
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
