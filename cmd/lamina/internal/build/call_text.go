package build

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"lamina/frontend"
	"lamina/solver"
)

// The answers to --call for people, in the form that docker buildx gives them.

// checkText is a report in the order of lines. That nothing was found is only
// said if the checks came to their end.
func checkText(in *input, warnings []frontend.Warning, failed bool) string {
	var b strings.Builder
	switch n := len(warnings); {
	case n > 1:
		fmt.Fprintf(&b, "Check complete, %d warnings have been found!\n", n)
	case n == 1:
		b.WriteString("Check complete, 1 warning has been found!\n")
	case !failed:
		return "Check complete, no warnings found.\n"
	}
	sorted := slices.SortedStableFunc(slices.Values(warnings), func(a, b frontend.Warning) int {
		return cmp.Compare(a.Pos.First, b.Pos.First)
	})
	for _, w := range sorted {
		fmt.Fprintf(&b, "\nWARNING: %s", w.Rule)
		if w.URL != "" {
			b.WriteString(" - " + w.URL)
		}
		b.WriteString("\n" + printable(w.Text) + "\n" + excerpt(in, w.Pos))
	}
	if len(warnings) > 0 && failed {
		b.WriteByte('\n')
	}
	return b.String()
}

// excerpt shows the lines at pos, marked, between as many others as make four.
func excerpt(in *input, pos solver.Pos) string {
	lines := strings.Split(string(in.source), "\n")
	first, last := pos.First, min(pos.Last, len(lines))
	if first < 1 || first > last {
		return ""
	}
	around := 2
	if first == last {
		around = 4
	}
	for n := 0; n < around; n++ {
		if first > 1 {
			first, n = first-1, n+1
		}
		if last != len(lines) {
			last, n = last+1, n+1
		}
	}
	const rule = "--------------------\n"
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d\n%s", in.name, pos.First, rule)
	for n := first; n <= last; n++ {
		mark := "   "
		if n >= pos.First && n <= pos.Last {
			mark = ">>>"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", n, mark, printable(lines[n-1]))
	}
	b.WriteString(rule)
	return b.String()
}

// printable is text of a Dockerfile without what would move a terminal's cursor,
// but for the end of a line.
func printable(line string) string {
	line, crlf := strings.CutSuffix(line, "\r")
	line = strings.Map(func(r rune) rune {
		if r != '\t' && r != '\n' && unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, line)
	if crlf {
		line += "\r"
	}
	return line
}

func outlineText(o *frontend.Outline) string {
	var b strings.Builder
	if o.Name != "" || o.Description != "" {
		w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
		fmt.Fprintf(w, "TARGET:\t%s\n", cmp.Or(o.Name, "(default)"))
		if o.Description != "" {
			fmt.Fprintf(w, "DESCRIPTION:\t%s\n", printable(o.Description))
		}
		w.Flush()
		b.WriteByte('\n')
	}
	var rows []string
	for _, a := range o.Args {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", printable(a.Name), printable(a.Value), printable(a.Description)))
	}
	columns(&b, "BUILD ARG\tVALUE\tDESCRIPTION", rows)
	columns(&b, "SECRET\tREQUIRED", mountRows(o.Secrets))
	columns(&b, "SSH\tREQUIRED", mountRows(o.SSH))
	return b.String()
}

func mountRows(mounts []frontend.OutlineMount) []string {
	var rows []string
	for _, m := range mounts {
		required := ""
		if m.Required {
			required = "true"
		}
		rows = append(rows, printable(m.ID)+"\t"+required)
	}
	return rows
}

// columns writes a table, unless it would be empty.
func columns(b *strings.Builder, head string, rows []string) {
	if len(rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	w.Flush()
	b.WriteByte('\n')
}

func targetsText(list []frontend.TargetInfo) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "TARGET\tDESCRIPTION")
	for i, t := range list {
		name := t.Name
		if i == len(list)-1 {
			name = strings.TrimSpace(name + " (default)")
		}
		fmt.Fprintf(w, "%s\t%s\n", name, printable(t.Description))
	}
	w.Flush()
	return b.String()
}
