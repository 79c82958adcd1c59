package explain

import (
	"slices"
	"strings"

	"lamina/cmd/lamina/internal/builds"
)

// chain is the step at and what it stands on, down to what is no work.
func chain(b *builds.Build, at int) []int {
	all := []int{at}
	for len(b.Steps[at].Inputs) > 0 {
		at = b.Steps[at].Inputs[0].Step
		all = append(all, at)
	}
	return all
}

// bottom is what the step at stands on in the end: its base.
func bottom(b *builds.Build, at int) int {
	all := chain(b, at)
	return all[len(all)-1]
}

// above are the elements of a chain before the one whose result is id; none if there
// is no such.
func above(b *builds.Build, chain []int, id string) []int {
	for k, at := range chain {
		if k > 0 && id != "" && b.Steps[at].ID.String() == id {
			return chain[:k]
		}
	}
	return nil
}

// rearranged explains why step i stands on what is at the position at instead of on
// c, if instructions were put between or taken away.
func (e *explainer) rearranged(r *reason, i, at int, c candidate) bool {
	if c.from.cache != "" {
		return false
	}
	old := c.step()
	if more := above(e.build, chain(e.build, at), old.ID.String()); len(more) > 0 {
		first := more[len(more)-1]
		text := instruction(e.build.Steps[first].Name)
		if keyword, _, _ := strings.Cut(text, " "); keyword == workdir && e.tells(r, workdir) {
			return true // that says it
		}
		if c.from.texts[text] {
			e.blame(r, i, Cause{Kind: Moved, Subject: text, Before: "after", After: "before"})
		} else {
			e.blame(r, i, Cause{Kind: Inserted, Subject: text, Line: e.build.Steps[first].Pos.First})
		}
		return true
	}
	gone := above(c.from.Build, chain(c.from.Build, c.at), e.build.Steps[at].ID.String())
	if len(gone) == 0 {
		return false
	}
	text := instruction(c.from.Steps[gone[len(gone)-1]].Name)
	if keyword, _, _ := strings.Cut(text, " "); keyword == workdir && e.tells(r, workdir) {
		return true // that says it
	}
	if e.texts[text] {
		e.blame(r, i, Cause{Kind: Moved, Subject: text, Before: "before", After: "after"})
	} else {
		e.blame(r, i, Cause{Kind: Removed, Subject: text})
	}
	return true
}

// replaced explains the same if what is around has changed as well, so that only the
// instructions tell where they were.
func (e *explainer) replaced(r *reason, i, at int, c candidate) bool {
	s, old := &e.build.Steps[at], c.step()
	text, was := instruction(s.Name), instruction(old.Name)
	there, here := c.from.texts[text] || s.Kind == "image", e.texts[was] || old.Kind == "image"
	switch {
	case text == was || !there && !here:
		return false
	case there && here:
		e.blame(r, i, Cause{Kind: Moved, Before: was, After: text})
	case here:
		e.blame(r, i, Cause{Kind: Inserted, Subject: text, Line: s.Pos.First})
	default:
		e.blame(r, i, Cause{Kind: Removed, Subject: was})
	}
	return true
}

// tells tells whether another value of the option is one of the causes in r.
func (e *explainer) tells(r *reason, option string) bool {
	return slices.ContainsFunc(r.causes, func(i int) bool { return e.causes[i].Kind == Option && e.causes[i].Subject == option })
}
