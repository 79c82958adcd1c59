package frontend

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"lamina/solver"
)

// The checks of one stage.

// checkFromArgs reports variables in a FROM that nothing declares.
func (s *stage) checkFromArgs(unknown map[string]struct{}, lines []parser.Range) {
	options := slices.Compact(slices.Sorted(slices.Values(append(s.l.globalNames, s.l.globals.Keys()...))))
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if slices.Contains(options, name) {
			continue
		}
		match := nearest(name, options)
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
	got, want := s.found.Config.Platform, s.platform
	if got.OS == want.OS && got.Architecture == want.Architecture {
		return
	}
	s.l.lint.Run(&linter.RuleInvalidBaseImagePlatform, lines(s.pos), linter.RuleInvalidBaseImagePlatform.Format(
		s.ref, FormatPlatform(want), FormatPlatform(NormalizePlatform(got))))
}

// checkVariables reports variables of c that are not set.
func (s *stage) checkVariables(unknown map[string]struct{}, c instructions.Command) {
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if _, declared := s.args.Get(name); declared || hidden(name) {
			continue
		}
		match := nearest(name, s.env.Keys())
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

// checkSource reports a source of COPY or ADD that the build context does not have,
// because the ignore file excludes it.
func (s *stage) checkSource(source string, c instructions.Command) {
	source = path.Clean(source)
	if s.l.opt.Ignored != nil && s.l.opt.Ignored(source) {
		verb := "Copy"
		if strings.EqualFold(c.Name(), command.Add) {
			verb = "Add"
		}
		s.lint.Run(&linter.RuleCopyIgnoredFile, c.Location(), linter.RuleCopyIgnoredFile.Format(verb, source))
	}
}

// lines converts a position to what the linter wants.
func lines(pos solver.Pos) []parser.Range {
	return []parser.Range{{Start: parser.Position{Line: pos.First}, End: parser.Position{Line: pos.Last}}}
}
