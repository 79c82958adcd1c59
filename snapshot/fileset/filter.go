package fileset

import (
	"fmt"

	"github.com/moby/patternmatcher"
)

// filter decides what of a selected directory's contents is copied. Its patterns
// are those of ignore files, of paths below the directory.
type filter struct {
	include *patternmatcher.PatternMatcher // nil includes everything
	exclude *patternmatcher.PatternMatcher // nil excludes nothing
}

// newFilter returns the filter that excludes what exclude matches, and what
// include, if it is not nil, does not match. It is nil if it would do nothing.
func newFilter(include, exclude []string) (*filter, error) {
	if include == nil && len(exclude) == 0 {
		return nil, nil
	}
	var f filter
	var err error
	if include != nil {
		if f.include, err = patternmatcher.New(include); err != nil {
			return nil, fmt.Errorf("%q is not a valid pattern", include[0])
		}
	}
	if len(exclude) == 0 {
		return &f, nil
	}
	for _, p := range exclude {
		if _, err := patternmatcher.New([]string{p}); err != nil {
			return nil, fmt.Errorf("--exclude=%s is not a valid pattern: %w", p, err)
		}
	}
	f.exclude, err = patternmatcher.New(exclude)
	return &f, err
}

// judgement is what a filter says of a path. The one of a directory is needed for
// what is in it.
type judgement struct {
	// copied tells whether the path itself is.
	copied bool
	// below tells whether something in it might be, if it is a directory.
	below bool

	included, excluded patternmatcher.MatchInfo
}

// judge decides about the path rel, which lies in a directory that above is about.
func (f *filter) judge(rel string, above judgement) (judgement, error) {
	j := judgement{copied: true, below: true}
	var err error
	if f.include != nil {
		if j.copied, j.included, err = f.include.MatchesUsingParentResults(rel, above.included); err != nil {
			return j, fmt.Errorf("match %s: %w", rel, err)
		}
		j.below = j.copied || anyMayMatchBelow(f.include, false, rel)
	}
	if f.exclude == nil {
		return j, nil
	}
	var excluded bool
	if excluded, j.excluded, err = f.exclude.MatchesUsingParentResults(rel, above.excluded); err != nil {
		return j, fmt.Errorf("match %s with --exclude: %w", rel, err)
	}
	if excluded {
		j.copied = false
		j.below = j.below && anyMayMatchBelow(f.exclude, true, rel)
	}
	return j, nil
}

// anyMayMatchBelow tells whether one of m's patterns, of those with "!" or of those
// without, might match something beneath dir. It errs in one direction only.
func anyMayMatchBelow(m *patternmatcher.PatternMatcher, exclusion bool, dir string) bool {
	for _, p := range m.Patterns() {
		if p.Exclusion() == exclusion && mayMatchBelow(p.String(), dir) {
			return true
		}
	}
	return false
}
