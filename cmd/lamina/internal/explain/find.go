package explain

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// Find returns the step of b that somebody means by name: its number, its line as
// "Dockerfile:12", its stage and number as "build 3" or "build 3/7", or the beginning
// of its text. It is fs.ErrNotExist if there is none; of several it names two.
func Find(b *builds.Build, name string) (Step, error) {
	for _, matches := range []func(Step) bool{
		func(s Step) bool { return sameFold(s.Label, name) || sameFold(slot("["+s.Label+"] "), name) },
		func(s Step) bool { return isNumber(name) && numberOf(s) == name },
		func(s Step) bool { return isLine(name, s.Line) },
		func(s Step) bool { return len(name) > 0 && hasPrefixFold(s.Text, name) },
	} {
		var found []Step
		for i := range b.Steps {
			if s := describe(b, i); s.ID == i && s.Label != "internal" && matches(s) {
				found = append(found, s)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return Step{}, fmt.Errorf("%q may be %s or %s", name, found[0].Named(), found[1].Named())
		}
	}
	return Step{}, fmt.Errorf("step %q: %w", name, fs.ErrNotExist)
}

// Named is a step by its label and text.
func (s Step) Named() string {
	if s.Label == "" {
		return s.String()
	}
	return fmt.Sprintf("[%s] %s", s.Label, s)
}

func sameFold(a, b string) bool {
	return a != "" && strings.EqualFold(a, strings.Join(strings.Fields(b), " "))
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// numberOf is the number of s in its stage.
func numberOf(s Step) string {
	place := slot("[" + s.Label + "] ")
	return place[strings.LastIndexByte(place, ' ')+1:]
}

// isLine tells whether name is "FILE:LINE" or ":LINE" of this line.
func isLine(name string, line int) bool {
	i := strings.LastIndexByte(name, ':')
	return i >= 0 && line > 0 && name[i+1:] == strconv.Itoa(line)
}

// Lookup returns what the report says of a step, if it was executed.
func (r *Report) Lookup(s Step) (Explained, bool) { return r.step(s.ID) }

// Only returns what the report says of the step with this ID and of those that its
// causes are from.
func (r *Report) Only(id int) *Report {
	one := &Report{Build: r.Build, Executed: r.Executed, Cached: r.Cached, Causes: []Cause{}, Steps: []Explained{}, Notes: r.Notes}
	wanted, causes := map[int]bool{id: true}, map[int]int{}
	for i := len(r.Steps) - 1; i >= 0; i-- { // what a step stands on comes before it
		if x := r.Steps[i]; wanted[x.ID] {
			for _, l := range x.Via {
				wanted[l.Step] = true
			}
		}
	}
	for _, x := range r.Steps {
		if !wanted[x.ID] {
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
	step := &b.Steps[s.ID]
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
