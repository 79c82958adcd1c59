package explain

import (
	"slices"
	"strings"
	"time"

	"lamina/cache"
	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
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

// noCacheOption is what made s be executed although it may be remembered.
func (e *explainer) noCacheOption(s *builds.Step) string {
	if e.build.NoCache || len(e.build.NoCacheFilter) == 0 {
		return "--no-cache"
	}
	name := stage(s.Name)
	if fields := strings.Fields(name); len(fields) > 0 {
		name = fields[len(fields)-1] // after the platform
	}
	for _, f := range e.build.NoCacheFilter {
		if strings.EqualFold(f, name) {
			return "--no-cache-filter=" + f
		}
	}
	return "--no-cache-filter=" + strings.Join(e.build.NoCacheFilter, ",")
}

// recordless explains a step whose key is that of an earlier one: what was remembered
// of that cannot be used, or is not there any more.
func (e *explainer) recordless(r *reason, i int) bool {
	s := &e.build.Steps[i]
	same, ok := e.sameKey(s)
	if ok {
		r.near, r.from = same.near(), same.from
	}
	switch {
	case s.Lost:
		e.blame(r, i, Cause{Kind: Lost})
	case e.evicted(r, i, same, ok):
	case s.Absent:
		e.blame(r, i, Cause{Kind: Absent})
	case ok && same.step().Verdict == solver.VerdictFailed:
		e.blame(r, i, Cause{Kind: Failed, Subject: string(builds.Failed)})
	case ok && same.step().Verdict == solver.VerdictCanceled:
		e.blame(r, i, Cause{Kind: Failed, Subject: string(builds.Canceled)})
	case ok && known(same.step()):
		e.blame(r, i, Cause{Kind: Gone})
	default:
		return false
	}
	return true
}

// sameKey is the latest step with a key of s that was looked up or executed.
func (e *explainer) sameKey(s *builds.Step) (candidate, bool) {
	for _, o := range e.earlier {
		for at := range o.Steps {
			c := candidate{o, at}
			if old := c.step(); sameKeys(s, old) && (known(old) || old.Verdict.Ran()) {
				return c, true
			}
		}
	}
	return candidate{}, false
}

func sameKeys(a, b *builds.Step) bool {
	return a.Narrow != "" && a.Narrow == b.Narrow || a.Whole != "" && a.Whole == b.Whole
}

// evicted blames whoever removed the record of step i before the build, if anybody
// did, and nobody met with it since: last is who did so last, if that is known.
func (e *explainer) evicted(r *reason, i int, last candidate, isKnown bool) bool {
	if e.history.Evicted == nil {
		return false
	}
	s := &e.build.Steps[i]
	for _, k := range []cache.Key{s.Whole, s.Narrow} {
		if k == "" {
			continue
		}
		when, who, err := e.history.Evicted(k)
		since := isKnown && last.from.cache == "" && last.from.Started.After(when.Add(time.Second)) // a log has whole seconds
		if err == nil && when.Before(e.build.Ended) && !since {
			e.blame(r, i, Cause{Kind: Evicted, Subject: who, When: when})
			return true
		}
	}
	return false
}

// compare explains why step i was executed by the difference of the step at, which is
// that or one that it stands on, to c.
func (e *explainer) compare(r *reason, i, at int, c candidate, seen map[int]bool) {
	if seen[at] {
		return
	}
	seen[at] = true
	s, o := &e.build.Steps[at], c.step()
	found := differences(o, s)
	for _, d := range found {
		if d.kind == Env && e.fromBase(r, at, c, d) {
			continue
		}
		e.blame(r, at, e.attribute(d, s, o))
	}
	for j, in := range s.Inputs {
		switch {
		case j >= len(o.Inputs), sameInput(o.Inputs[j], in): // the operation says what it has more
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

// input explains why input number j of the step at is not that of c.
func (e *explainer) input(r *reason, i, at, j int, c candidate, seen map[int]bool) {
	in := e.build.Steps[at].Inputs[j]
	source := &e.build.Steps[in.Step]
	was := c.step().Inputs[j]
	if e.follow(r, in, was) {
		return
	}
	old, ok := c.from.source(c.at, j)
	switch {
	case source.Kind == "local":
		e.files(r, at, in, was)
	case isScratch(source) != (ok && isScratch(&c.from.Steps[old])) && e.build.Steps[at].Kind == "copy":
		e.blame(r, at, Cause{Kind: Option, Subject: "--link", Before: flag(!isScratch(source)), After: flag(isScratch(source))})
	case !ok:
		e.blame(r, in.Step, Cause{Kind: Parent, Before: c.from.inputName(c.at, j), After: instruction(source.Name)})
	default:
		e.standsOn(r, i, in.Step, candidate{c.from, old}, seen)
	}
}

// follow takes over the causes of a step that was executed and that another stands
// on. It is false if that was not executed.
func (e *explainer) follow(r *reason, in, was builds.Input) bool {
	source := &e.build.Steps[in.Step]
	if source.Kind == "merge" {
		followed := false
		for _, below := range source.Inputs {
			followed = e.follow(r, builds.Input{Step: below.Step}, builds.Input{}) || followed
		}
		return followed
	}
	if !ran(source) {
		return false
	}
	link := Link{Step: e.step(in.Step).Number}
	if in.Read.Digest != "" && was.Read.Digest != "" {
		if c, err := e.tables(was.Read.Parts, in.Read.Parts); err == nil {
			link.Files, link.More = c.first, c.count-len(c.first)
		}
	}
	r.via = append(r.via, link)
	for _, cause := range e.reason(in.Step).causes {
		// A mount that is new is told of as a mount, and not as the files that it shows.
		if e.causes[cause].Kind == New && isInternal(source) && len(r.causes) > 0 {
			continue
		}
		r.add(cause)
	}
	return true
}

func (r *reason) add(cause int) {
	if !slices.Contains(r.causes, cause) {
		r.causes = append(r.causes, cause)
	}
}

// files blames the files that the step at reads of a directory of this machine.
func (e *explainer) files(r *reason, at int, in, was builds.Input) {
	cause := Cause{Kind: Files}
	changes, err := e.tables(was.Read.Parts, in.Read.Parts)
	if err == nil {
		cause.Files, cause.More = changes.first, changes.count-len(changes.first)
	}
	e.blame(r, at, cause)
}

// standsOn explains why what is at the position at, which was not executed, is not c.
func (e *explainer) standsOn(r *reason, i, at int, c candidate, seen map[int]bool) {
	s, o := &e.build.Steps[at], c.step()
	if s.ID != "" && s.ID == o.ID {
		return
	}
	switch {
	case s.Kind == "image" && o.Kind == "image":
		e.blame(r, at, e.base(s, o, c))
	case s.Kind == "http" && o.Kind == "http" && len(differences(o, s)) == 0:
		e.blame(r, at, Cause{Kind: URL, Subject: remote(s), Before: short(o.ID), After: short(s.ID)})
	case s.Kind == "git" && o.Kind == "git" && len(differences(o, s)) == 0:
		e.blame(r, at, Cause{Kind: Commit, Subject: remote(s), Before: e.commit(o.ID), After: e.commit(s.ID)})
	case e.rearranged(r, i, at, c), e.replaced(r, i, at, c):
	case s.Kind == o.Kind:
		e.compare(r, i, at, c, seen)
	default:
		e.blame(r, at, Cause{Kind: Parent, Before: instruction(o.Name), After: instruction(s.Name)})
	}
}

// isScratch tells whether s is an empty image.
func isScratch(s *builds.Step) bool {
	return s.Kind == "image" && instruction(s.Name) == "FROM scratch"
}

// commit is the commit that a Git result is of, or else what identifies it.
func (e *explainer) commit(id cache.Key) string {
	if e.history.Commit != nil {
		if c := e.history.Commit(id); c != "" {
			return c[:min(len(c), 12)]
		}
	}
	return ""
}

// base is the difference of two base images.
func (e *explainer) base(s, o *builds.Step, c candidate) Cause {
	name, old := imageName(s.Name), imageName(o.Name)
	if name != old {
		return e.attribute(difference{Base, name, old, name}, s, o)
	}
	if c.from.cache == "" && !slices.Equal(c.from.Platforms, e.build.Platforms) {
		return Cause{Kind: Platform, Subject: name, Before: strings.Join(c.from.Platforms, ","), After: strings.Join(e.build.Platforms, ",")}
	}
	return Cause{Kind: Base, Subject: name, Before: short(o.ID), After: short(s.ID)}
}

// source is the position of what makes input number j of the step at.
func (o *earlier) source(at, j int) (int, bool) {
	in := o.Steps[at].Inputs
	if j >= len(in) {
		return 0, false
	}
	if o.cache == "" {
		return in[j].Step, true
	}
	if o.byID == nil {
		o.byID = map[string]int{}
		for i := range o.Steps {
			o.byID[o.Steps[i].ID.String()] = i
		}
	}
	found, ok := o.byID[in[j].ID.String()]
	return found, ok && in[j].ID != ""
}

// inputName is what made input number j of the step at, if that is all that is known.
func (o *earlier) inputName(at, j int) string {
	if in := o.Steps[at].Inputs; j < len(in) {
		return instruction(in[j].Name)
	}
	return ""
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
