package frontend

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"lamina/solver"
)

// File is a Dockerfile whose syntax is right. It is never changed, so one File
// may be lowered any number of times, also at once.
type File struct {
	Name   string // for positions
	Source []byte

	tree     *parser.Node
	escape   rune
	warnings []parser.Warning // empty continuation lines
	foreign  error            // why its "# syntax=" cannot be followed
}

// Parse reads the Dockerfile src, which errors call name. An error is an
// [ErrorList] with every instruction that is wrong.
func Parse(name string, src []byte) (*File, error) {
	var errs ErrorList
	f, err := read(name, src)
	if err != nil {
		return nil, errs.add(solver.Pos{File: name}, err)
	}
	stages := 0
	for _, n := range f.tree.Children {
		pos := position(name, n.Location())
		cmd, err := instructions.ParseInstructionWithLinter(n, silent())
		if err != nil {
			errs.add(pos, f.explain(pos, err))
		}
		switch {
		case strings.EqualFold(n.Value, command.From):
			stages++
		case err == nil && stages == 0 && !strings.EqualFold(n.Value, command.Arg):
			errs.add(pos, wrong("begin with FROM: only ARG may stand before it",
				"%s stands before the first FROM", strings.ToUpper(cmd.(instructions.Command).Name())))
		}
	}
	if stages == 0 && len(errs) == 0 {
		errs.add(solver.Pos{File: name}, noStage())
	}
	if len(errs) > 0 && f.foreign != nil { // it is another language
		errs = nil
		return nil, errs.add(solver.Pos{File: name}, f.foreign)
	}
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	return f, nil
}

func noStage() *Error {
	return wrong("a Dockerfile needs a FROM: \"FROM scratch\" starts from nothing", "there is no stage to build")
}

// read reads src as a list of instructions, of which it does not yet know
// whether they are right. An error is an [*Error] with its place.
func read(name string, src []byte) (*File, error) {
	if len(src) == 0 {
		return nil, wrong("is it the file that you meant?", "the Dockerfile is empty")
	}
	if bytes.HasPrefix(src, []byte("\xff\xfe")) || bytes.HasPrefix(src, []byte("\xfe\xff")) {
		return nil, &Error{Pos: solver.Pos{File: name}, Text: "the text is UTF-16", Hint: "save it as UTF-8"}
	}
	var foreign error
	if _, syntax, lines, ok := parser.DetectSyntax(src); ok {
		if err := acceptSyntax(syntax); err != nil {
			foreign = at(position(name, lines), err)
		}
	}
	res, err := parser.Parse(bytes.NewReader(src))
	if err != nil && foreign != nil {
		return nil, foreign
	}
	if err != nil {
		return nil, parserError(name, err)
	}
	if n := withNUL(res.AST.Children); n != nil {
		return nil, at(position(name, n.Location()), wrong("", "there is a NUL byte in this instruction: it can be in no argument, name or variable"))
	}
	f := &File{
		Name: name, Source: src,
		tree: res.AST, escape: res.EscapeToken, warnings: res.Warnings, foreign: foreign,
	}
	if err := f.tooNew(); err != nil {
		return nil, err
	}
	return f, nil
}

// withNUL returns the first instruction that has a NUL byte where it would be
// expanded, if there is one.
func withNUL(all []*parser.Node) *parser.Node {
	for _, n := range all {
		expanded := n.Original
		for _, doc := range n.Heredocs {
			if doc.Expand {
				expanded += doc.Content
			}
		}
		if strings.Contains(expanded, "\x00") {
			return n
		}
	}
	return nil
}

// wellFormed returns s with U+FFFD for each byte that is not UTF-8, which is what
// the expansion of variables makes of it, and says on the standard error.
func wellFormed(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// parserError is err with its line, which the parser counts from 0 in directives
// and of a line that is too long is that of the one before.
func parserError(name string, err error) *Error {
	e := at(solver.Pos{File: name}, err)
	text := err.Error()
	if strings.Contains(text, "escape token") || strings.Contains(text, "parser directive") || strings.Contains(text, "max allowed size") {
		line := 1
		if located := (*parser.LocationError)(nil); errors.As(err, &located) {
			line += located.Locations[0][0].Start.Line
		}
		e.Pos.First, e.Pos.Last = line, line
	}
	return e
}

// explain returns err, which is of an instruction, with what can be said of it
// when one sees the instruction.
func (f *File) explain(pos solver.Pos, err error) *Error {
	e := at(pos, err)
	i := slices.IndexFunc(f.tree.Children, func(n *parser.Node) bool { return n.StartLine == e.Pos.First })
	if i < 0 {
		return e
	}
	n := f.tree.Children[i]
	if flag, ok := strings.CutPrefix(e.Text, "unknown flag: "); ok {
		e.Text = strings.ToUpper(n.Value) + " has no flag " + flag
		e.Hint = flagHint(n.Value, flag)
	}
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) && e.Hint == "" && i > 0 && f.tree.Children[i-1].EndLine == n.StartLine-1 && !f.looksLikeInstruction(n) {
		e.Hint = "if it belongs to the line above, that has to end in a " + string(f.escape)
	}
	return e
}

// looksLikeInstruction tells whether n begins with a word, at the beginning of its line.
func (f *File) looksLikeInstruction(n *parser.Node) bool {
	lines := bytes.SplitN(f.Source, []byte("\n"), n.StartLine+1)
	return len(lines) >= n.StartLine && bytes.HasPrefix(lines[n.StartLine-1], []byte(n.Value)) &&
		pattern(`^[A-Za-z]{2,}$`)().MatchString(n.Value)
}

// instructions returns fresh values of f's stages and of the ARGs before them;
// lowering expands variables in them in place. lint is told what is found.
func (f *File) instructions(lint *linter.Linter) ([]instructions.Stage, []instructions.ArgCommand, error) {
	return instructions.Parse(f.tree, lint)
}

// silent returns a linter that says nothing. The parser cannot do without one
// where a comment configures it.
func silent() *linter.Linter { return linter.New(&linter.Config{}) }

func instructionNames() []string {
	names := slices.Sorted(maps.Keys(command.Commands))
	for i, n := range names {
		names[i] = strings.ToUpper(n)
	}
	return names
}

// newestSyntax is the minor version of docker/dockerfile 1.x that this package
// speaks.
const newestSyntax = 26

// syntaxName is docker/dockerfile by any of its names: a tag "1", "1.7",
// "1.7.1", "latest", "labs" or "1-labs", and a digest, each if it likes.
var syntaxName = pattern(`^(?:docker\.io/)?docker/dockerfile(?:-upstream)?` +
	`(?::(?:1(?:\.(\d+)(?:\.\d+)?)?(?:-(?:labs|experimental))?|latest|labs|experimental|master(?:-labs)?))?` +
	`(?:@sha256:[0-9a-f]{64})?$`)

// acceptSyntax tells whether the frontend that a "# syntax=" names speaks the
// language of this package, which then stands in for it.
func acceptSyntax(name string) error {
	name, _, _ = strings.Cut(name, " ")
	m := syntaxName().FindStringSubmatch(name)
	if m == nil {
		return wrong("leave it out, or name docker/dockerfile:1", "the frontend %s is not supported", name)
	}
	if minor, err := strconv.Atoi(m[1]); m[1] != "" && (err != nil || minor > newestSyntax) {
		return wrong("use docker/dockerfile:1 if the file needs nothing newer",
			"the syntax of %s is newer than 1.%d, the newest that is known here", name, newestSyntax)
	}
	return nil
}
