package explain

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"lamina/cmd/lamina/internal/builds"
)

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
	case linked(&e.build.Steps[at]) != linked(c.step()):
		e.blame(r, at, Cause{Kind: Option, Subject: "--link", Before: flag(linked(c.step())), After: flag(!linked(c.step()))})
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

// swapped are the inputs of the step at that are a directory of this machine now, and
// were not in c, or the other way round.
func (e *explainer) swapped(at int, c candidate) (all []int) {
	for j, in := range e.build.Steps[at].Inputs {
		if old, ok := c.from.source(c.at, j); ok && (e.build.Steps[in.Step].Kind == "local") != (c.from.Steps[old].Kind == "local") {
			all = append(all, j)
		}
	}
	return all
}

// filesOf says whose files s has.
func filesOf(s *builds.Step) string {
	if name, ok := strings.CutPrefix(slot(s.Name), "context "); ok && s.Kind == "local" {
		return "--build-context " + name
	} else if s.Kind == "local" {
		return "the build context"
	}
	return instruction(s.Name)
}

// commit is the commit that a Git result is of, or else what identifies it.
func (e *explainer) commit(id digest.Digest) string {
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
