package explain

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes the causes for people, each with what was executed because of it.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	switch {
	case r.Executed == 0 && r.failed:
		fmt.Fprintf(&b, "No step was executed; %s cached.\n", are(r.Cached))
	case r.Executed == 0 && r.Cached == 0:
		b.WriteString("No step had to be executed.\n")
	case r.Executed == 0:
		fmt.Fprintf(&b, "All %s cached.\n", are(r.Cached))
	default:
		fmt.Fprintf(&b, "Why %d of %s %s executed:\n", r.Executed, steps(r.Executed+r.Cached), was(r.Executed))
	}
	for _, c := range r.Causes {
		c.writeText(&b)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func are(n int) string {
	if n == 1 {
		return "1 step is"
	}
	return fmt.Sprintf("%d steps are", n)
}

func was(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// writeText writes one cause.
func (c *Cause) writeText(b *strings.Builder) {
	fmt.Fprintf(b, "  %s\n", c.Text)
	if n := len(c.Executed); n > 1 || n == 1 && !c.names(c.Executed[0]) {
		fmt.Fprintf(b, "    so %s ran: %s\n", steps(n), list(c.Executed))
	}
}

// names tells whether the sentence of c says that s was executed.
func (c *Cause) names(s Step) bool { return c.Kind != NoCache && c.Step.Number == s.Number }

func steps(n int) string {
	if n == 1 {
		return "1 step"
	}
	return fmt.Sprintf("%d steps", n)
}

// maxListed is how many steps are listed of one cause.
const maxListed = 10

// list is steps by their texts.
func list(all []Step) string {
	var texts []string
	names := map[string]int{}
	for _, s := range all {
		names[s.String()]++
	}
	for i, s := range all {
		if i == maxListed && len(all) > maxListed+1 {
			texts = append(texts, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		name := s.String()
		if names[name] > 1 { // for several platforms
			name = "[" + s.Label + "] " + name
		}
		texts = append(texts, name)
	}
	return strings.Join(texts, ", ")
}

// WriteStep writes why one step was executed: what it was compared with, its causes
// with all that is known of them, and the steps between.
func (r *Report) WriteStep(w io.Writer, x Explained) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s was executed", x.Step)
	if x.Near != nil {
		fmt.Fprintf(&b, "; the nearest earlier record is %s", x.Near)
	}
	b.WriteString(".\n")
	seen := map[int]bool{}
	r.writeChain(&b, x, "  ", seen)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeChain writes the causes of a step: its own, then what it has from others.
func (r *Report) writeChain(b *strings.Builder, x Explained, indent string, seen map[int]bool) {
	if seen[x.Number] {
		return
	}
	seen[x.Number] = true
	told := map[int]bool{}
	for _, l := range x.Via {
		if parent, ok := r.step(l.Step); ok {
			for _, c := range parent.Causes {
				told[c] = true
			}
		}
	}
	own := false
	for _, i := range x.Causes {
		if !told[i] {
			r.Causes[i].writeWhole(b, indent)
			own = true
		}
	}
	inner := indent // a chain without branches is no deeper than its beginning
	if own || len(x.Via) > 1 {
		inner += "  "
	}
	for _, l := range x.Via {
		parent, ok := r.step(l.Step)
		if !ok {
			continue
		}
		fmt.Fprintf(b, "%sparent step %d ran: %s\n", indent, parent.Number, parent.Step)
		for _, f := range l.Files {
			fmt.Fprintf(b, "%s  which made: %s\n", indent, f)
		}
		if l.More > 0 {
			fmt.Fprintf(b, "%s  and %s\n", indent, moreFiles(l.More))
		}
		r.writeChain(b, parent, inner, seen)
	}
}

// writeWhole writes a cause with all that is known of it.
func (c *Cause) writeWhole(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%s%s\n", indent, c.Text)
	for i, f := range c.Files {
		if i > 0 {
			fmt.Fprintf(b, "%s  %s\n", indent, f)
		}
	}
	if c.More > 0 && len(c.Files) > 1 {
		fmt.Fprintf(b, "%s  and %s\n", indent, moreFiles(c.More))
	}
	if len(c.Before) > maxBrief || len(c.After) > maxBrief || strings.ContainsRune(c.Before+c.After, '\n') {
		for _, line := range lineDiff(c.Before, c.After) {
			fmt.Fprintf(b, "%s  %s\n", indent, line)
		}
	}
}

func moreFiles(n int) string {
	if n == 1 {
		return "1 more file"
	}
	return fmt.Sprintf("%d more files", n)
}

// lineDiff shows the lines that two texts do not share at their beginnings and ends.
func lineDiff(before, after string) []string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var all []string
	for _, line := range a {
		all = append(all, "- "+printable(line))
	}
	for _, line := range b {
		all = append(all, "+ "+printable(line))
	}
	return all
}

// String says what a step was compared with.
func (n *Near) String() string {
	if n.Cache != "" {
		return fmt.Sprintf("%s in the cache %s", n.Step, n.Cache)
	}
	return fmt.Sprintf("%s of build %s", n.Step, n.Build)
}

// step is the executed step with this number.
func (r *Report) step(number int) (Explained, bool) {
	for _, x := range r.Steps {
		if x.Number == number {
			return x, true
		}
	}
	return Explained{}, false
}
