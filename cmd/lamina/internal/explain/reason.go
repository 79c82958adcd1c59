package explain

import (
	"slices"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/builds"
)

// reason says why step i was executed.
func (e *explainer) reason(i int) *reason {
	if r := e.reasons[i]; r != nil {
		return r
	}
	r := &reason{}
	e.reasons[i] = r
	s := &e.build.Steps[i]
	if s.NoCache {
		e.blame(r, i, Cause{Kind: NoCache, Subject: e.noCacheOption(s)})
		return r
	}
	if e.recordless(r, i) {
		return r
	}
	c, ok := e.nearest(i)
	if !ok {
		e.unlikeAnything(r, i)
		return r
	}
	r.near, r.from = c.near(), c.from
	e.compare(r, i, i, c, map[int]bool{})
	e.dropDirectory(r)
	if len(r.causes) == 0 {
		e.blame(r, i, Cause{Kind: Unknown})
	}
	return r
}

// dropDirectory leaves out that a step has another working directory, if a WORKDIR came
// or went.
func (e *explainer) dropDirectory(r *reason) {
	isWorkdir := func(text string) bool { return strings.HasPrefix(text, workdir+" ") }
	arranged := slices.ContainsFunc(r.causes, func(i int) bool {
		switch c := e.causes[i]; c.Kind {
		case New:
			return isWorkdir(c.Step.Text)
		case Moved:
			return isWorkdir(c.Step.Text) || isWorkdir(c.Subject) || isWorkdir(c.Before) || isWorkdir(c.After)
		case Inserted, Removed:
			return isWorkdir(c.Subject)
		}
		return false
	})
	if arranged {
		r.causes = slices.DeleteFunc(r.causes, func(i int) bool { return e.causes[i].Subject == workdir })
	}
}

// unlikeAnything explains a step that has no like. One that stands on such a step, too,
// is no cause of its own.
func (e *explainer) unlikeAnything(r *reason, i int) {
	for _, in := range e.build.Steps[i].Inputs {
		e.follow(r, in, builds.Input{})
	}
	if !slices.ContainsFunc(r.causes, func(c int) bool { return e.causes[c].Kind == New }) {
		e.blame(r, i, Cause{Kind: New, all: !e.hasKin()})
	}
}

// hasKin tells whether anything like the build was built.
func (e *explainer) hasKin() bool {
	return slices.ContainsFunc(e.earlier, func(o *earlier) bool { return o.kin && len(o.texts) > 0 })
}

// compare explains why step i was executed by the difference of the step at, which is
// that or one that it stands on, to c.
func (e *explainer) compare(r *reason, i, at int, c candidate, seen map[int]bool) {
	if seen[at] {
		return
	}
	seen[at] = true
	s, o := &e.build.Steps[at], c.step()
	found, swapped := differences(o, s), e.swapped(at, c)
	for _, d := range found {
		if d.subject == contextOwners && len(swapped) > 0 {
			continue // that is why
		}
		if d.kind == Env && e.fromBase(r, at, c, d) {
			continue
		}
		e.blame(r, at, e.attribute(d, s, o))
	}
	for j, in := range s.Inputs {
		switch {
		case j >= len(o.Inputs), sameInput(o.Inputs[j], in): // the operation says what it has more
		case slices.Contains(swapped, j):
			old, _ := c.from.source(c.at, j)
			e.blame(r, at, Cause{Kind: Parent, Before: filesOf(&c.from.Steps[old]), After: filesOf(&e.build.Steps[in.Step])})
		case j > 0 && s.Kind == "copy" && len(found) > 0 && e.build.Steps[in.Step].Kind == "local": // other files, because others are asked for
		default:
			e.input(r, i, at, j, c, seen)
		}
	}
}

// fromBase blames the base image for a variable that no instruction sets, if it is
// another.
func (e *explainer) fromBase(r *reason, at int, c candidate, d difference) bool {
	s, o := &e.build.Steps[at], c.step()
	_, here := variable(s, d.subject, d.after)
	_, there := variable(o, d.subject, d.before)
	if here || there || c.from.cache != "" {
		return false
	}
	mine, theirs := bottom(e.build, at), bottom(c.from.Build, c.at)
	image, old := &e.build.Steps[mine], &c.from.Steps[theirs]
	if image.Kind != "image" || old.Kind != "image" || image.ID == old.ID {
		return false
	}
	e.blame(r, mine, e.base(image, old, candidate{c.from, theirs}))
	return true
}

// blame makes cause, which is at the position at, one of r. Two causes that are about
// the same are one.
func (e *explainer) blame(r *reason, at int, cause Cause) {
	cause.Step = e.step(at)
	cause.Near = r.near
	if cause.Kind == Files {
		for i, c := range e.causes {
			if c.Kind == Files && (c.Step.Number == cause.Step.Number || c.covers(cause.Files, cause.More)) {
				r.add(i)
				return
			}
		}
	}
	key := cause.key()
	i, ok := e.index[key]
	if !ok && cause.Subject == workdir {
		// A step after another WORKDIR has another directory, and that may be in it.
		short := cause
		short.Before, short.After = trimCommon(cause.Before, cause.After)
		i, ok = e.index[short.key()]
	}
	if !ok {
		i = len(e.causes)
		e.causes = append(e.causes, &cause)
		e.index[key] = i
	}
	r.add(i)
}

// key is the same for causes that are the same, wherever they are noticed.
func (c *Cause) key() string {
	key := []string{string(c.Kind), c.Subject, c.Before, c.After}
	switch c.Kind {
	case NoCache, Gone, Lost, Absent:
	case New:
		if !c.all {
			key = append(key, c.Step.Label, c.Step.Text)
		}
	case Evicted:
		key = append(key, c.When.Truncate(time.Minute).String())
	case Arg, Env, Base, Platform, URL, Commit:
		// One for all who use it.
	case Option:
		if c.isOfStep() {
			key = append(key, c.Step.Label, c.Step.Text)
		}
	default:
		key = append(key, c.Step.Label, c.Step.Text)
	}
	return strings.Join(key, "\x00")
}
