package builds

import (
	"path/filepath"
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
	return title
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
