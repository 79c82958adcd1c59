package build

import (
	"fmt"
	"slices"
	"strings"

	"lamina/cmd/lamina/internal/progress"
	"lamina/frontend"
)

// remarks are what a build has to say beside its result.
type remarks struct {
	warnings []frontend.Warning
	notes    []string
}

// remark shows the notes now; the warnings wait for the end.
func (b *build) remark(r remarks) {
	for _, note := range r.notes {
		b.display.Warn(note)
	}
	b.remarks = r
	if b.display.Mode == progress.RawJSON {
		for _, w := range r.warnings {
			b.display.Warn(warningLine(w))
		}
	}
}

// tellWarnings lists what the checks found, once the display is closed, in the
// form of docker buildx: with --debug everything about each.
func (b *build) tellWarnings(in *input) {
	switch b.display.Mode {
	case progress.Quiet, progress.RawJSON, progress.None:
		return
	}
	var all []frontend.Warning
	for _, w := range b.remarks.warnings {
		if !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	if len(all) == 0 {
		return
	}
	var text strings.Builder
	count, more := "1 warning", " (use --debug to expand)"
	if len(all) > 1 {
		count = fmt.Sprintf("%d warnings", len(all))
	}
	if b.Debug {
		more = ""
	}
	fmt.Fprintf(&text, "\n %s found%s:\n", count, more)
	for _, w := range all {
		fmt.Fprintf(&text, " - %s\n", warningLine(w))
		if !b.Debug {
			continue
		}
		fmt.Fprintln(&text, w.Description)
		if w.URL != "" {
			fmt.Fprintln(&text, "More info: "+w.URL)
		}
		text.WriteString(excerpt(in, w.Pos) + "\n")
	}
	fmt.Fprint(b.Stderr, text.String())
}

// warningLine is a warning in one line.
func warningLine(w frontend.Warning) string {
	line := printable(w.Rule + ": " + w.Text)
	if w.Pos.First > 0 {
		line += fmt.Sprintf(" (line %d)", w.Pos.First)
	}
	return line
}
