package frontend

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"

	"lamina/solver"
)

// Error is something wrong with a Dockerfile.
type Error struct {
	Pos  solver.Pos
	Text string // what is wrong
	Hint string // what to do about it, if we know
	Err  error  // the cause, if another part reported it
}

// Error returns the place and the text, "Dockerfile:3: unknown instruction RNU".
func (e *Error) Error() string {
	switch {
	case e.Pos.First > 0:
		return fmt.Sprintf("%s:%d: %s", e.Pos.File, e.Pos.First, e.Text)
	case e.Pos.File != "":
		return e.Pos.File + ": " + e.Text
	}
	return e.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorList is everything that is wrong, in the order of lines.
type ErrorList []*Error

// Error returns the errors, one a line.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors.
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}

// add records err at pos unless it knows a better place, and returns the list.
// The same error of another platform or target is recorded once.
func (l *ErrorList) add(pos solver.Pos, err error) ErrorList {
	e := at(pos, err)
	same := func(o *Error) bool { return o.Pos == e.Pos && o.Text == e.Text }
	if !slices.ContainsFunc(*l, same) {
		*l = append(*l, e)
	}
	return *l
}

func (l ErrorList) sorted() ErrorList {
	slices.SortStableFunc(l, func(a, b *Error) int { return cmp.Compare(a.Pos.First, b.Pos.First) })
	return l
}

// wrong returns an error that still lacks its place.
func wrong(hint, format string, args ...any) *Error {
	return &Error{Text: fmt.Sprintf(format, args...), Hint: hint}
}

// suggestion is how the parser's own errors end when they have one.
var suggestion = pattern(`^(?s)(.*) \((did you mean .*\?)\)$`)

// prefix is how errors in an instruction begin, and those in variables: with the
// line and its text, which are shown anyway.
var prefix = pattern(`^(?:dockerfile parse error on line \d+: )?(?:failed to process "(?:[^"\\]|\\.)*": )?`)

// at gives err its place: pos, unless err knows a more exact one.
func at(pos solver.Pos, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		e := *known
		if e.Pos == (solver.Pos{}) {
			e.Pos = pos
		}
		return &e
	}
	var located *parser.LocationError
	if errors.As(err, &located) && len(located.Locations) > 0 {
		if p := position(pos.File, located.Locations[0]); p.First > 0 {
			pos = p
		}
	}
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) {
		return &Error{Pos: pos, Err: err,
			Text: fmt.Sprintf("unknown instruction %q", unknown.Instruction),
			Hint: didYouMean(unknown.Instruction, instructionNames(), false)}
	}
	text, hint := prefix().ReplaceAllString(strings.TrimSpace(err.Error()), ""), ""
	if m := suggestion().FindStringSubmatch(text); m != nil {
		text, hint = m[1], m[2]
	}
	if strings.Contains(text, "modifier (\uFFFD)") { // the parser met the end of the text
		text = "a variable's ${ has no }"
	}
	text, hint = reword(text, hint)
	return &Error{Pos: pos, Text: text, Hint: hint, Err: err}
}

// position converts the lines that the parser gives an instruction.
func position(file string, lines []parser.Range) solver.Pos {
	pos := solver.Pos{File: file}
	for _, r := range lines {
		if pos.First == 0 || r.Start.Line < pos.First {
			pos.First = r.Start.Line
		}
		pos.Last = max(pos.Last, r.End.Line)
	}
	return pos
}

// didYouMean returns a hint that names the option most like word, if any is. Of
// several it is one with the same letters, or else one that begins alike.
func didYouMean(word string, options []string, caseSensitive bool) string {
	unlike := func(option string) int {
		if letters(option) == letters(word) {
			return -len(word)
		}
		n := 0
		for n < min(len(option), len(word)) && option[n] == word[n] {
			n++
		}
		return -n
	}
	options = slices.Clone(options)
	slices.SortFunc(options, func(a, b string) int {
		return cmp.Or(cmp.Compare(unlike(a), unlike(b)), cmp.Compare(a, b))
	})
	if match, ok := suggest.Search(word, options, caseSensitive); ok {
		return "did you mean " + match + "?"
	}
	return ""
}

// letters returns the letters of s in order, to find those that were swapped.
func letters(s string) string {
	b := []byte(strings.ToLower(s))
	slices.Sort(b)
	return string(b)
}

// didYouMeanAny is didYouMean for the first of words that has a neighbour.
func didYouMeanAny(words map[string]struct{}, options []string) string {
	for _, w := range slices.Sorted(maps.Keys(words)) {
		if hint := didYouMean(w, options, true); hint != "" {
			return hint
		}
	}
	return ""
}

// Render returns err as a person wants to see it: for each [Error] its text, its
// lines of src, the Dockerfile, between their neighbours, and its hint. Of very
// many errors it shows the first: what is no Dockerfile has one a line. Another
// error is returned as its text.
func Render(err error, src []byte) string {
	const most = 10 // errors
	var list ErrorList
	var one *Error
	if !errors.As(err, &list) {
		if !errors.As(err, &one) {
			return err.Error() + "\n"
		}
		list = ErrorList{one}
	}
	var b strings.Builder
	for i, e := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == most {
			fmt.Fprintf(&b, "and %d more errors\n", len(list)-most)
			break
		}
		b.WriteString(e.Error() + "\n" + Excerpt(src, e.Pos))
		if e.Hint != "" {
			b.WriteString("hint: " + e.Hint + "\n")
		}
	}
	return b.String()
}

// Excerpt returns the lines of src at pos, marked, and one neighbour on each
// side. Of a long instruction it shows the beginning and the end.
func Excerpt(src []byte, pos solver.Pos) string {
	const most = 6 // marked lines at the beginning of a long instruction
	lines := strings.Split(string(bytes.TrimRight(src, "\r\n")), "\n")
	if pos.First < 1 || pos.First > len(lines) {
		return ""
	}
	last := min(max(pos.Last, pos.First), len(lines))
	var b strings.Builder
	for n := max(pos.First-1, 1); n <= min(last+1, len(lines)); n++ {
		if n == pos.First+most && n < last {
			fmt.Fprintf(&b, "       …\n")
			n = last
		}
		mark := " "
		if n >= pos.First && n <= last {
			mark = ">"
		}
		line := fmt.Sprintf(" %s %3d | %s", mark, n, harmless(strings.TrimRight(lines[n-1], "\r")))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// harmless is a line as it can be shown on any terminal: without what would move
// its cursor or set its title, and not longer than anybody reads.
func harmless(line string) string {
	const most = 400 // characters
	shown := []rune(strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, line))
	if len(shown) > most {
		return string(shown[:most]) + "…"
	}
	return string(shown)
}
