package frontend

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// The checks that look at the whole file.

// checkLines reports what the parser does not like of the text.
func (l *lowering) checkLines() {
	for _, w := range l.file.warnings {
		l.lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
	}
}

// checkStageNames reports names of stages that mean something else, too.
func (l *lowering) checkStageNames(stages []instructions.Stage) {
	seen := map[string]bool{}
	for _, st := range stages {
		if st.Name == "context" || st.Name == scratch {
			l.lint.Run(&linter.RuleReservedStageName, st.Location, linter.RuleReservedStageName.Format(st.Name))
		}
		if st.Name != "" && seen[st.Name] {
			l.lint.Run(&linter.RuleDuplicateStageName, st.Location, linter.RuleDuplicateStageName.Format(st.Name))
		}
		seen[st.Name] = true
	}
}

// checkCasing reports keywords that are not written as most others are.
func (l *lowering) checkCasing(stages []instructions.Stage) {
	type keyword struct {
		text  string
		lines []parser.Range
	}
	var all []keyword
	for _, st := range stages {
		all = append(all, keyword{st.OrigCmd, st.Location})
		for _, c := range st.Commands {
			all = append(all, keyword{c.Name(), c.Location()})
		}
	}
	lower, upper := 0, 0
	for _, k := range all {
		switch k.text {
		case strings.ToLower(k.text):
			lower++
		case strings.ToUpper(k.text):
			upper++
		}
	}
	want, casing := strings.ToUpper, "uppercase"
	if lower > upper {
		want, casing = strings.ToLower, "lowercase"
	}
	for _, k := range all {
		if k.text != want(k.text) {
			l.lint.Run(&linter.RuleConsistentInstructionCasing, k.lines,
				linter.RuleConsistentInstructionCasing.Format(k.text, casing))
		}
	}
}

// checkDefaultBases reports bases that make no sense unless arguments are given.
func (l *lowering) checkDefaultBases(stages []instructions.Stage, args []instructions.ArgCommand, platform environ) {
	defaults, _, err := l.globalArgs(platform, args, nil)
	if err != nil {
		return // the build fails for it, unless an argument is given
	}
	for _, st := range stages {
		ref, _, err := l.lex.ProcessWord(st.BaseName, defaults)
		if err != nil {
			return
		}
		if checkImageName(ref) != nil {
			l.lint.Run(&linter.RuleInvalidDefaultArgInFrom, st.Location,
				linter.RuleInvalidDefaultArgInFrom.Format(st.BaseName))
		}
	}
}
