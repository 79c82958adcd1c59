package builds

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"lamina/cmd/lamina/internal/human"
	"lamina/solver"
)

// Write describes the build to people: what was asked for, what came of it, and each
// of its steps.
func (b *Build) Write(w io.Writer, now time.Time) error {
	head := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
	field := func(name string, values ...string) {
		for _, v := range values {
			if v != "" {
				fmt.Fprintf(head, "%s\t%s\n", name, oneLine(v))
				name = ""
			}
		}
	}
	field("Build:", b.ID)
	field("Status:", string(b.Status))
	field("Error:", b.Error)
	field("Context:", b.Context)
	field("Dockerfile:", b.Dockerfile)
	field("Target:", strings.Join(b.Targets, ", "))
	field("Platform:", strings.Join(b.Platforms, ", "))
	field("Arguments:", sortedArgs(b.Args)...)
	field("Caches:", b.caches()...)
	field("Started:", b.Started.Local().Format(time.DateTime)+" ("+human.Ago(b.Started, now)+")")
	field("Took:", human.Took(b.Took(now)))
	field("Steps:", b.Count().String())
	for _, i := range b.Images {
		field("Image:", append([]string{i.Digest.String()}, each(i.Names, familiar)...)...)
	}
	field("Warnings:", b.Warnings...)
	field("Log:", b.LogEnds)
	if err := head.Flush(); err != nil {
		return err
	}
	return b.writeSteps(w, now)
}

// String is "7/9 cached".
func (c Counts) String() string {
	if c.Cached+c.Executed == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d cached", c.Cached, c.Cached+c.Executed)
}

func sortedArgs(args map[string]string) []string {
	var all []string
	for name, value := range args {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return all
}

func (b *Build) caches() []string {
	var all []string
	for _, c := range b.Caches {
		what := fmt.Sprintf("%d steps", c.Steps)
		if c.Error != "" {
			what = c.Error
		}
		all = append(all, fmt.Sprintf("%s (%s)", c.Name, what))
	}
	return all
}

// writeSteps lists the steps, and what the build did besides.
func (b *Build) writeSteps(w io.Writer, now time.Time) error {
	if len(b.Steps)+len(b.Phases) == 0 {
		return nil
	}
	critical := b.Critical()
	if len(critical) >= b.Count().Executed {
		critical = nil // each waited for the one before
	}
	tw := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
	fmt.Fprint(tw, "\nSTEP\tLINE\tVERDICT\tTIME\tOUTPUT\tNAME\n")
	for i := range b.Steps {
		s := &b.Steps[i]
		if s.Pos.First == 0 && s.Verdict == solver.VerdictSource {
			continue // the context
		}
		line := ""
		if s.Pos.First > 0 {
			line = fmt.Sprint(s.Pos.First)
		}
		took := s.time(now)
		if slices.Contains(critical, i) {
			took += " *"
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t%s\n", i+1, line, b.verdict(s), took, size(s.Log), oneLine(s.Name))
	}
	for _, p := range b.Phases {
		fmt.Fprintf(tw, "\t\t%s\t%s\t\t%s\n", p.verdict(), human.Took(p.Took), oneLine(p.Name))
	}
	if err := tw.Flush(); err != nil || critical == nil {
		return err
	}
	first, last := &b.Steps[critical[0]], &b.Steps[critical[len(critical)-1]]
	_, err := fmt.Fprintf(w, "\n* is what all else waited for: %s from its beginning to its end\n", human.Took(last.ended().Sub(first.Started)))
	return err
}

// verdict is that of s, with the cache that a hit came from.
func (b *Build) verdict(s *Step) string {
	switch {
	case s.Verdict == Pending:
		return "waiting"
	case s.Verdict == solver.VerdictCached && s.From > 0 && s.From <= len(b.Caches):
		return "cached in " + b.Caches[s.From-1].Name
	}
	return string(s.Verdict)
}

// verdict is that of a phase; that it succeeded goes without saying.
func (p Phase) verdict() string {
	if p.Status == Succeeded {
		return ""
	}
	return string(p.Status)
}

// time is how long the step took. Of one that was cached it is in brackets: that is
// what it took when it was executed.
func (s *Step) time(now time.Time) string {
	switch {
	case s.Verdict == Executing:
		return human.Took(max(0, now.Sub(s.Started)))
	case s.Verdict == solver.VerdictCached && s.Took > 0:
		return "(" + human.Took(s.Took) + ")"
	case s.Took > 0 || s.Verdict == solver.VerdictExecuted:
		return human.Took(s.Took)
	}
	return ""
}

func size(n int64) string {
	if n == 0 {
		return ""
	}
	return human.Size(n)
}

// oneLine is s without line breaks and what a table could stumble on.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\t' || r == '\r' || r == '\v' || r == '\f' }), " ")
}

func each(all []string, do func(string) string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = do(s)
	}
	return out
}
