package builds

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lamina/cache/registry"
	"lamina/solver"
)

// Counts are how many of a build's steps were found and how many were executed, to
// their end or not. What is no work, and what was not needed, is in neither.
type Counts struct{ Cached, Executed int }

// Count counts the steps of b.
func (b *Build) Count() Counts {
	var c Counts
	for i := range b.Steps {
		switch v := b.Steps[i].Verdict; {
		case !b.Steps[i].isWork():
		case v == solver.VerdictCached:
			c.Cached++
		case v.Ran() || v == Executing:
			c.Executed++
		}
	}
	return c
}

// isWork tells whether a step is one that is cached or executed.
func (s *Step) isWork() bool {
	switch s.Kind {
	case "image", "local", "inline", "merge":
		return false
	}
	return s.Verdict != solver.VerdictSource
}

// Critical are the positions of the steps that decided how long it took to execute
// them all: the one that ended last, of what that reads the one that ended last, and
// so on. They are in the order of their execution.
func (b *Build) Critical() []int {
	last := -1
	for i := range b.Steps {
		if b.Steps[i].Verdict.Ran() && (last < 0 || b.Steps[i].ended().After(b.Steps[last].ended())) {
			last = i
		}
	}
	var path []int
	for last >= 0 {
		path = append(path, last)
		next := -1
		for _, in := range b.Steps[last].Inputs {
			s := &b.Steps[in.Step]
			if s.took() && (next < 0 || s.ended().After(b.Steps[next].ended())) {
				next = in.Step
			}
		}
		last = next
	}
	slices.Reverse(path)
	return path
}

// took tells whether the step took time in this build: it was executed, or fetched.
func (s *Step) took() bool {
	return !s.Started.IsZero() && s.Verdict != solver.VerdictCached
}

func (s *Step) ended() time.Time { return s.Started.Add(s.Took) }

// Took is how long the build lasted, or lasts until now.
func (b *Build) Took(now time.Time) time.Duration {
	if !b.Ended.IsZero() {
		now = b.Ended
	}
	return max(0, now.Sub(b.Started))
}

// Title is what people may call the build: the first name of its image or, as
// docker does it, what was built, and the target.
func (b *Build) Title() string {
	if len(b.Names) > 0 {
		return familiar(b.Names[0])
	}
	title := b.source()
	if len(b.Targets) > 0 {
		title += " (" + strings.Join(b.Targets, ", ") + ")"
	}
	return oneLine(title)
}

// familiar is the name of an image as people write it.
func familiar(name string) string {
	n, err := registry.ParseName(name)
	if err != nil {
		return name
	}
	return n.Familiar()
}

// source is what was built, in short: the last part of the context's path, with
// the Dockerfile's unless that is what one expects.
func (b *Build) source() string {
	if !filepath.IsAbs(b.Context) {
		if b.Context == "-" && b.Dockerfile != "" {
			return b.Dockerfile
		}
		return b.Context
	}
	dir := filepath.Base(b.Context)
	rel, err := filepath.Rel(b.Context, b.Dockerfile)
	switch {
	case rel == "Dockerfile" || b.Dockerfile == "":
		return dir
	case err == nil && filepath.IsLocal(rel):
		return filepath.Join(dir, rel)
	}
	return b.Dockerfile
}
