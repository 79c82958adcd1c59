package intake

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"lamina/cmd/lamina/internal/human"
)

// WriteText writes the report for people: all of it, or, if paths were asked about,
// the answers.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for i := range r.Contexts {
		t := &r.Contexts[i]
		if len(t.Paths) > 0 {
			t.writePaths(&b, len(r.Contexts) > 1)
			continue
		}
		if i > 0 {
			b.WriteString("\n")
		}
		t.write(&b)
	}
	if len(r.Notes) > 0 && b.Len() > 0 {
		b.WriteString("\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table writes rows with columns, as docker does, under a heading and after an empty line.
func table(b *strings.Builder, heading string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 1, 3, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // into memory
	trimmed := trimLines(b.String())
	b.Reset()
	b.WriteString(trimmed)
}

// trimLines removes space at the ends of lines, where a column is empty.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func (t *Tree) write(b *strings.Builder) {
	what := "Context " + shown(t.Source)
	if t.Name != "" {
		what = fmt.Sprintf("Context %s, %s", t.Name, shown(t.Source))
	}
	if t.IgnoreFile != "" {
		what += ", without what " + shown(t.IgnoreFile) + " excludes"
	}
	b.WriteString(what + "\n")
	copied := Amount{t.Total.Files - t.Excluded.Files - t.Unused.Files, t.Total.Bytes - t.Excluded.Bytes - t.Unused.Bytes}
	table(b, "\tFILES\tSIZE", [][]string{
		append([]string{"copied"}, copied.columns()...),
		append([]string{"never copied"}, t.Unused.columns()...),
		append([]string{"excluded"}, t.Excluded.columns()...),
		append([]string{"in all"}, t.Total.columns()...),
	})
	var rows [][]string
	for _, c := range t.Copies {
		row := append([]string{strconv.Itoa(c.Line), c.shown()}, c.columns()...)
		if c.Error != "" {
			row = []string{strconv.Itoa(c.Line), c.shown(), "-", "-"}
		}
		rows = append(rows, row)
	}
	table(b, "LINE\tINSTRUCTION\tFILES\tSIZE", rows)
	table(b, "LARGEST FILE\tSIZE\tCOPIED IN LINE", t.largest(t.Files, false))
	table(b, "LARGEST DIRECTORY\tFILES\tSIZE\tCOPIED IN LINE", t.largest(t.Directories, true))
	t.writeRules(b)
	rows = nil
	for _, u := range t.Unread {
		rows = append(rows, []string{shown(u.Path), u.Why})
	}
	table(b, "NOT READ\tWHY", rows)
	rows = nil
	for _, name := range t.Unreadable {
		rows = append(rows, []string{shown(name)})
	}
	table(b, "DIRECTORY THAT CANNOT BE READ", rows)
}

func (t *Tree) writeRules(b *strings.Builder) {
	var rows [][]string
	for _, r := range t.Rules {
		row := []string{fmt.Sprintf("%s:%d", shown(r.File), r.Line), shown(r.Text)}
		switch {
		case r.Unmatched:
			row = append(row, "matches nothing", "", "")
		case r.Files == 0:
			row = append(row, "changes nothing", "", "")
		case strings.HasPrefix(r.Text, "!"):
			row = append(append(row, "includes again"), r.columns()...)
		default:
			row = append(append(row, "excludes"), r.columns()...)
		}
		rows = append(rows, row)
	}
	table(b, "RULE\tPATTERN\tEFFECT\tFILES\tSIZE", rows)
}

func (t *Tree) largest(all []Large, dirs bool) (rows [][]string) {
	for _, l := range all {
		row := []string{shown(l.Path), human.Size(l.Bytes), t.lines(l.Copies)}
		if dirs {
			row = append([]string{shown(l.Path) + "/"}, append(l.columns(), row[2])...)
		}
		rows = append(rows, row)
	}
	return rows
}

// lines are where these copies are, "3, 7", or "never".
func (t *Tree) lines(copies []int) string {
	if len(copies) == 0 {
		return "never"
	}
	var all []string
	for _, c := range copies {
		if line := strconv.Itoa(t.Copies[c].Line); len(all) == 0 || all[len(all)-1] != line {
			all = append(all, line)
		}
	}
	return strings.Join(all, ", ")
}

func (a Amount) columns() []string {
	return []string{strconv.FormatInt(a.Files, 10), human.Size(a.Bytes)}
}

// maxText is how much of an instruction is shown, in runes.
const maxText = 70

func (c Copy) shown() string {
	text := []rune(shown(c.Text))
	if len(text) > maxText {
		text = append(text[:maxText-1], '…')
	}
	if c.Mount {
		return "RUN, " + string(text)
	}
	return string(text)
}

// shown is a name as it may be written to a terminal.
func shown(name string) string {
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return strconv.Quote(name)
		}
	}
	return name
}

// writePaths answers what was asked. A named context only tells of paths that it has.
func (t *Tree) writePaths(b *strings.Builder, several bool) {
	for _, p := range t.Paths {
		if t.Name != "" && p.Missing {
			continue
		}
		what := shown(p.Path)
		if several && t.Name != "" {
			what += " of the context " + t.Name
		}
		fmt.Fprintf(b, "%s%s\n", what, p.answer())
		for _, m := range p.Rules {
			fmt.Fprintf(b, "  %s %s\n", m.Rule, m.effect())
		}
		for _, i := range p.Copies {
			c := t.Copies[i]
			fmt.Fprintf(b, "  line %d%s: %s\n", c.Line, would(p), c.shown())
		}
		for _, i := range p.LeftOut {
			c := t.Copies[i]
			fmt.Fprintf(b, "  line %d leaves it out: %s\n", c.Line, c.shown())
		}
	}
}

// would is what a copy does to a path that does not exist.
func would(p Path) string {
	if p.Missing {
		return " would copy it"
	}
	return ""
}

// answer is the first line, after the name.
func (p Path) answer() string {
	if p.Missing {
		text := " does not exist"
		if p.Excluded {
			return text + ", and would be excluded"
		}
		for i, n := range p.Nearest {
			text += []string{"; did you mean ", ", ", " or "}[min(i, 2)] + shown(n)
		}
		if len(p.Nearest) > 0 {
			text += "?"
		}
		return text
	}
	var about string
	switch {
	case p.Share != nil:
		about = fmt.Sprintf(" (directory, %s)", files(p.Share.Total))
	case p.Kind == "link":
		about = " (link to " + shown(p.Link) + ")"
	default:
		about = fmt.Sprintf(" (%s, %s)", p.Kind, human.Size(p.Size))
	}
	switch {
	case p.Share != nil:
		return about + p.Share.answer()
	case p.Excluded:
		return about + " is excluded"
	case len(p.Copies) > 0:
		return about + " is copied"
	}
	about += " is not excluded, but nothing copies it"
	if p.Kind == "link" {
		about += "; a COPY that names it copies what it leads to"
	}
	return about
}

// answer says what becomes of a directory's files.
func (s *Share) answer() string {
	copied := s.Total.Files - s.Excluded.Files - s.Unused.Files
	switch s.Total.Files {
	case 0:
		return " has no files"
	case s.Excluded.Files:
		return " is excluded"
	case copied:
		return " is copied"
	case s.Unused.Files:
		return " is not excluded, but nothing copies it"
	}
	return fmt.Sprintf(": %d copied, %d excluded, %d never copied", copied, s.Excluded.Files, s.Unused.Files)
}

func files(a Amount) string {
	if a.Files == 1 {
		return "1 file of " + human.Size(a.Bytes)
	}
	return fmt.Sprintf("%d files, %s", a.Files, human.Size(a.Bytes))
}

// String says where the rule is and what it says.
func (r Rule) String() string {
	return fmt.Sprintf("line %d of %s: %q", r.Line, r.File, r.Text)
}

// effect says what the rule did to the path.
func (m Match) effect() string {
	what := "it"
	if m.Matches != "" {
		what = shown(m.Matches) + "/"
	}
	switch {
	case m.Excludes:
		return "excludes " + what
	case m.Includes:
		return "includes " + what + " again"
	}
	return "matches " + what + " and changes nothing"
}
