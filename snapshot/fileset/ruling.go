package fileset

import (
	"path"
	"strings"

	"github.com/moby/patternmatcher"
)

// Ruling is what rules say of a name.
type Ruling struct {
	Excluded bool
	// By is the position of the rule that decided; -1 if none matches. Of those that
	// say the same it is the first.
	By int

	matched []bool // which rules were found to match it, or a directory above it
}

// Step is a rule that matches a name, or a directory above it.
type Step struct {
	Rule Rule
	// Dir is the directory above that the rule matches; empty if it is the name
	// itself.
	Dir string
	// Excludes and Includes tell what the rule changed; if neither is set, the rules
	// before it had said the same.
	Excludes, Includes bool
}

// Trace lists the rules that match name, a path in the context, in their order. The
// last one that changed something decided. Whether the file exists does not matter.
func (rs Rules) Trace(name string) []Step {
	j, err := newJudge(rs)
	name = clean(name)
	if err != nil || name == "." {
		return nil
	}
	var steps []Step
	excluded := false
	ruling := j.ruleAll(name)
	for i, r := range rs {
		dir, ok := j.where(i, name)
		effective := ruling.matched[i]
		if !ok && !effective {
			continue
		}
		s := Step{Rule: r, Dir: dir}
		if s.Dir == name {
			s.Dir = ""
		}
		if again := r.includes(); effective && again == excluded {
			excluded = !again
			s.Excludes, s.Includes = excluded, !excluded
		}
		steps = append(steps, s)
	}
	return steps
}

// Excludes tells which rule excludes name, a path in the context: the last ones
// that apply to it or to a directory above it win, and the first of them that
// says the same is named. Whether the file exists does not matter. It is for a
// few names: [Ignore] is for many.
func (rs Rules) Excludes(name string) (Rule, bool) {
	j, err := newJudge(rs)
	if err != nil {
		return Rule{}, false
	}
	if r := j.ruleAll(clean(name)); r.Excluded {
		return rs[r.By], true
	}
	return Rule{}, false
}

// includes tells whether r includes again ("!").
func (r Rule) includes() bool { return strings.HasPrefix(r.pattern, "!") }

// judge applies rules one by one, to tell which decided, with the result that a
// matcher of all of them has on the way down a tree.
type judge struct {
	rules []Rule
	each  []*patternmatcher.PatternMatcher // of one rule, without its "!"
	seen  []bool                           // rules that matched anything
	// alone makes a matcher look at a name and not at the directories above it.
	alone patternmatcher.MatchInfo
}

func newJudge(rs Rules) (*judge, error) {
	j := &judge{rules: rs, seen: make([]bool, len(rs))}
	for _, r := range rs {
		pattern := strings.TrimPrefix(r.pattern, "!")
		if strings.HasPrefix(pattern, "!") {
			pattern = `\` + pattern
		}
		m, err := patternmatcher.New([]string{pattern})
		if err != nil {
			return nil, err
		}
		j.each = append(j.each, m)
	}
	nothing, err := patternmatcher.New([]string{"!x"})
	if err == nil {
		_, j.alone, err = nothing.MatchesUsingParentResults("y", patternmatcher.MatchInfo{})
	}
	return j, err
}

// rule tells what the rules say of name, of whose directory they say above. Like
// the matcher it asks no rule that could change nothing.
func (j *judge) rule(name string, above Ruling) (Ruling, error) {
	r := Ruling{By: -1, matched: make([]bool, len(j.rules))}
	for i, rule := range j.rules {
		match := above.matched != nil && above.matched[i]
		if changes := rule.includes() == r.Excluded; !match && (changes || !j.seen[i]) {
			ok, err := j.matches(i, name)
			if err != nil {
				return r, err
			}
			match = ok && changes
		}
		r.matched[i] = match
		if match && rule.includes() == r.Excluded {
			r.Excluded, r.By = !r.Excluded, i
		}
	}
	return r, nil
}

// ruleAll is rule for a name of whose directories nothing is known yet.
func (j *judge) ruleAll(name string) Ruling {
	r := Ruling{By: -1, matched: make([]bool, len(j.rules))}
	if name == "." {
		return r
	}
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		next, err := j.rule(at, r)
		if err != nil {
			return r
		}
		r = next
	}
	return r
}

// where is the first of the directories down to name, or name, that rule i matches.
func (j *judge) where(i int, name string) (string, bool) {
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		if ok, err := j.matches(i, at); err == nil && ok {
			return at, true
		}
	}
	return "", false
}

// matches tells whether the pattern of rule i matches name itself.
func (j *judge) matches(i int, name string) (bool, error) {
	ok, _, err := j.each[i].MatchesUsingParentResults(name, j.alone)
	j.seen[i] = j.seen[i] || ok
	return ok, err
}

func (j *judge) unmatched() []int {
	var all []int
	for i, seen := range j.seen {
		if !seen {
			all = append(all, i)
		}
	}
	return all
}
