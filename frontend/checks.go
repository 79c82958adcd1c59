package frontend

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"

	"lamina/solver"
)

// The checks of the reference's linter that need the meaning of a Dockerfile;
// those of its syntax alone are the parser's.

// checkFile checks what is seen by looking at the whole file.
func (l *lowering) checkFile(stages []instructions.Stage) {
	for _, w := range l.file.warnings {
		l.lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
	}
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
	l.checkCasing(stages)
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
	defaults, err := l.globalArgs(platform, args, nil)
	if err != nil {
		return // the build fails for it, unless an argument is given
	}
	names := map[string]bool{}
	for _, st := range stages {
		ref, _, err := l.lex.ProcessWord(st.BaseName, defaults)
		if err == nil && checkImageName(ref) != nil && !names[strings.ToLower(ref)] {
			l.lint.Run(&linter.RuleInvalidDefaultArgInFrom, st.Location,
				linter.RuleInvalidDefaultArgInFrom.Format(st.BaseName))
		}
		names[st.Name] = true
	}
}

// checkFromArgs reports variables in a FROM that nothing declares.
func (s *stage) checkFromArgs(unknown map[string]struct{}, lines []parser.Range) {
	options := append(slices.Sorted(maps.Keys(s.l.declared)), s.l.globals.Keys()...)
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if s.l.declared[name] {
			continue
		}
		match, _ := suggest.Search(name, options, true)
		s.lint.Run(&linter.RuleUndefinedArgInFrom, lines, linter.RuleUndefinedArgInFrom.Format(name, match))
	}
}

// checkPlatformFlag reports a --platform that is the default, or always the same.
func (s *stage) checkPlatformFlag(st instructions.Stage, word shell.ProcessWordResult) {
	if len(word.Matched) == 0 && len(word.Unmatched) == 0 {
		p, err := ParsePlatform(word.Result)
		if err == nil && !strings.Contains(st.Name, p.OS) && !strings.Contains(st.Name, p.Architecture) {
			s.lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, st.Location,
				linter.RuleFromPlatformFlagConstDisallowed.Format(word.Result))
		}
		return
	}
	target, _ := s.l.globals.Get("TARGETPLATFORM")
	if _, ok := word.Matched["TARGETPLATFORM"]; ok && len(word.Matched) == 1 && len(word.Unmatched) == 0 && word.Result == target {
		s.lint.Run(&linter.RuleRedundantTargetPlatform, st.Location, linter.RuleRedundantTargetPlatform.Format(st.Platform))
	}
}

// checkBasePlatform reports an image that is for another platform than asked for.
func (s *stage) checkBasePlatform() {
	got, want := NormalizePlatform(s.image.Platform), s.platform
	if got.OS == want.OS && got.Architecture == want.Architecture {
		return
	}
	s.lint.Run(&linter.RuleInvalidBaseImagePlatform, lines(s.pos),
		linter.RuleInvalidBaseImagePlatform.Format(s.ref, FormatPlatform(want), FormatPlatform(got)))
}

// checkVariables reports variables of c that are not set.
func (s *stage) checkVariables(unknown map[string]struct{}, c instructions.Command) {
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if _, declared := s.args.Get(name); declared || hidden(name) {
			continue
		}
		match, _ := suggest.Search(name, s.env.Keys(), true)
		s.lint.Run(&linter.RuleUndefinedVar, c.Location(), linter.RuleUndefinedVar.Format(name, match))
	}
}

func (s *stage) checkDelimiter(kv instructions.KeyValuePair, c instructions.Command) {
	if kv.NoDelim {
		s.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
	}
}

// secretName and publicName tell names of secrets from those that only look so.
var (
	secretName = pattern(`(?i)(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicName = pattern(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
)

func (s *stage) checkSecret(keyword, name string, c instructions.Command) {
	if secretName().MatchString(name) && !publicName().MatchString(name) {
		s.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, c.Location(), linter.RuleSecretsUsedInArgOrEnv.Format(keyword, name))
	}
}

// checkWorkdir reports a relative directory whose meaning depends on the base.
func (s *stage) checkWorkdir(c *instructions.WorkdirCommand) {
	if !s.workdirSet && !strings.HasPrefix(c.Path, "/") {
		s.lint.Run(&linter.RuleWorkdirRelativePath, c.Location(), linter.RuleWorkdirRelativePath.Format(c.Path))
	}
	s.workdirSet = true
}

// checkOnce reports the earlier one of two instructions of which only the last
// one counts.
func (s *stage) checkOnce(c instructions.Command) {
	key := strings.ToLower(c.Name())
	if earlier, ok := s.once[key]; ok {
		s.lint.Run(&linter.RuleMultipleInstructionsDisallowed, earlier,
			linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	s.once[key] = c.Location()
}

// warnUnusedArgs reports build arguments that do nothing.
func (w *work) warnUnusedArgs() {
	pos := solver.Pos{File: w.file.Name}
	for _, name := range slices.Sorted(maps.Keys(w.opt.BuildArgs)) {
		warning := Warning{Pos: pos, Rule: "UnusedBuildArg"}
		switch {
		case name == "BUILDKIT_SYNTAX", name == "BUILDKIT_SANDBOX_HOSTNAME", name == "BUILDKIT_CACHE_MOUNT_NS",
			name == "BUILDKIT_DOCKERFILE_CHECK":
			continue
		case w.declared[name]:
			continue
		case strings.HasPrefix(name, "BUILDKIT_"):
			warning.Text = "build argument " + name + " has no effect here"
		case predefined(name):
			continue
		default:
			warning.Text = "build argument " + name + " was not consumed: no ARG declares it"
			if match, ok := suggest.Search(name, slices.Sorted(maps.Keys(w.declared)), true); ok {
				warning.Text += " (did you mean " + match + "?)"
			}
		}
		w.warnings = append(w.warnings, warning)
	}
}

// lines converts a position to what the linter wants.
func lines(pos solver.Pos) []parser.Range {
	return []parser.Range{{Start: parser.Position{Line: pos.First}, End: parser.Position{Line: pos.Last}}}
}
