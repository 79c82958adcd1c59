package fileset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"
)

func TestSurvey(t *testing.T) {
	tree := memory("a/b.go", "a/b.md", "a/c/d.go", "a/c/e.md", "log/x.log", "log/keep.log", "top")
	rs := rules(t, "log", "!log/keep.log", "a/c", "unused")
	shown, err := Ignore(tree, rs)
	must(t, err)
	var selections []*Selection
	for _, q := range []Query{
		{Paths: []string{"."}},
		{Paths: []string{"a"}, Exclude: []string{"*.md"}},
		{Paths: []string{"t*", "log/keep.log", "./log"}},
	} {
		sel, err := Select(t.Context(), shown, q)
		must(t, err)
		selections = append(selections, sel)
	}
	s, err := NewSurveyor(tree, rs, selections)
	must(t, err)
	var got strings.Builder
	tell := func(f Found) {
		fmt.Fprintf(&got, "%s excluded=%v by=%d taken=%v left=%v\n", f.Name, f.Ruling.Excluded, f.Ruling.By, f.Taken, f.LeftOut)
	}
	must(t, s.Walk(t.Context(), func(f Found) error { tell(f); return f.Err }))
	want := lines(`
		a excluded=false by=-1 taken=[0 1] left=[]
		a/b.go excluded=false by=-1 taken=[0 1] left=[]
		a/b.md excluded=false by=-1 taken=[0] left=[1]
		a/c excluded=true by=2 taken=[] left=[]
		a/c/d.go excluded=true by=2 taken=[] left=[]
		a/c/e.md excluded=true by=2 taken=[] left=[]
		log excluded=true by=0 taken=[] left=[]
		log/keep.log excluded=false by=1 taken=[0 2] left=[]
		log/x.log excluded=true by=0 taken=[] left=[]
		top excluded=false by=-1 taken=[0 2] left=[]
	`)
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{3}, s.Unmatched()); diff != "" {
		t.Error(diff)
	}
	// One name is told what the walk tells of it, and so is one that does not exist.
	for line := range strings.Lines(want) {
		name, _, _ := strings.Cut(line, " ")
		f, err := s.Look("/" + name)
		must(t, err)
		got.Reset()
		tell(f)
		if got.String() != line {
			t.Errorf("Look says %s, want %s", got.String(), line)
		}
	}
	f, err := s.Look("a/c/new")
	if !errors.Is(err, fs.ErrNotExist) || !f.Ruling.Excluded || f.Ruling.By != 2 {
		t.Errorf("Look of a missing name = %+v, %v", f, err)
	}
}

// TestSurveyAgrees compares what a survey says with what COPY does, on rules and
// selections made by chance.
func TestSurveyAgrees(t *testing.T) {
	tree := memory("a", "b/a", "b/b", "b/c/a", "b/c/b.x", "c/d/e/a.x", "c/d/b", "c/a", "x.x")
	words := []string{"a", "b", "c", "d", "e", "*", "**", "a*", "*.x", "?", "b.x"}
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		pattern := func() string {
			p := words[r.IntN(len(words))]
			for r.IntN(2) == 0 {
				p = path.Join(p, words[r.IntN(len(words))])
			}
			return p
		}
		var patterns, exclude []string
		for range r.IntN(5) {
			patterns = append(patterns, strings.Repeat("!", r.IntN(2))+pattern())
		}
		for range r.IntN(3) {
			exclude = append(exclude, strings.Repeat("!", r.IntN(2))+pattern())
		}
		rs := rules(t, patterns...)
		shown, err := Ignore(tree, rs)
		must(t, err)
		sel, err := Select(t.Context(), shown, Query{Paths: []string{pattern()}, Exclude: exclude, Parents: r.IntN(3) == 0})
		if err != nil {
			continue // there is nothing of that name
		}
		want, got := map[string]bool{}, map[string]bool{}
		for _, m := range sel.matches {
			must(t, walk(t.Context(), shown, m, func(it item) error {
				want[it.name] = want[it.name] || !it.above
				return nil
			}))
		}
		s, err := NewSurveyor(tree, rs, []*Selection{sel})
		must(t, err)
		must(t, s.Walk(t.Context(), func(f Found) error {
			if len(f.Taken) > 0 {
				got[f.Name] = true
			}
			return nil
		}))
		for name := range want {
			if e, err := tree.Lstat(name); err == nil && e.Kind == 0 && want[name] != got[name] {
				t.Fatalf("rules %q, %+v: %s is taken: %v, want %v", patterns, sel.query, name, got[name], want[name])
			}
		}
		for name := range got {
			if e, err := tree.Lstat(name); err == nil && e.Kind == 0 && !want[name] {
				t.Fatalf("rules %q, %+v: %s is not taken", patterns, sel.query, name)
			}
		}
	}
}

// TestJudgeAgrees compares the rules one by one with a matcher of all of them.
func TestJudgeAgrees(t *testing.T) {
	words := []string{"a", "b", "*", "**", "a*", `\a`, "[ab]", "!a", "a.b", "?"}
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 2))
		var patterns []string
		for range r.IntN(6) {
			p := words[r.IntN(len(words))]
			for r.IntN(2) == 0 {
				p = path.Join(p, words[r.IntN(len(words))])
			}
			patterns = append(patterns, strings.Repeat("!", r.IntN(2))+p)
		}
		rs := rules(t, patterns...)
		m, err := patternmatcher.New(rs.Patterns())
		must(t, err)
		j, err := newJudge(rs)
		must(t, err)
		var info patternmatcher.MatchInfo
		name, ruling := "", Ruling{By: -1}
		for range 4 {
			name = path.Join(name, []string{"a", "b", "ab", "a.b", "!a", "c"}[r.IntN(6)])
			want, next, err := m.MatchesUsingParentResults(name, info)
			must(t, err)
			info = next
			ruling, err = j.rule(name, ruling)
			must(t, err)
			if ruling.Excluded != want {
				t.Fatalf("rules %q: %s is excluded: %v, want %v", patterns, name, ruling.Excluded, want)
			}
			var last *Step
			for _, s := range rs.Trace(name) {
				if s.Excludes || s.Includes {
					last = &s
				}
			}
			if decided := last != nil; decided != (ruling.By >= 0) || decided && (last.Rule != rs[ruling.By] || last.Excludes != want) {
				t.Fatalf("rules %q: of %s the trace says %+v, and the ruling %+v", patterns, name, last, ruling)
			}
		}
	}
}

func TestTrace(t *testing.T) {
	rs := rules(t, "*.log", "a", "!a/b", "a/b/c", "**/c", "z")
	for name, want := range map[string][]string{
		"a/b/c/d": {`2 excludes a`, `3 includes a/b`, `4 excludes a/b/c`, `5 - a/b/c`},
		"a/b":     {`2 excludes a`, `3 includes `},
		"x.log":   {`1 excludes `},
		"b":       nil,
		".":       nil,
	} {
		var got []string
		for _, s := range rs.Trace(name) {
			effect := "-"
			if s.Excludes {
				effect = "excludes"
			} else if s.Includes {
				effect = "includes"
			}
			got = append(got, fmt.Sprintf("%d %s %s", s.Rule.Line, effect, s.Dir))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSurveyEnds(t *testing.T) {
	s, err := NewSurveyor(memory("a/b"), nil, nil)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Walk(ctx, func(Found) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the walk ended with %v", err)
	}
}
