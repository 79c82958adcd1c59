package frontend

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
)

// The checks are the rules of the reference's linter, in its words, and found in
// its order. Those of a single instruction's syntax are in its parser; here and in
// the other files called checks are those that need a meaning.

// findings is what the checks have found so far, and what they are to look for.
type findings struct {
	config *linter.Config
	// asked is who asked for findings to be errors, if anybody did.
	asked string
	// everyStage has stages checked that no target needs.
	everyStage bool
	// quiet finds nothing: another platform's lowering has said it all.
	quiet    bool
	warnings []Warning
	earlier  map[Warning]bool // those that another target has, too
}

// configureChecks reads the file's "# check=" or the build argument in its place.
func (w *work) configureChecks() error {
	const arg = "BUILDKIT_DOCKERFILE_CHECK"
	option, _, lines, _ := parser.ParseDirective("check", w.file.Source)
	w.asked = `the "# check=" line`
	given, ok := w.opt.BuildArgs[arg]
	if ok {
		option, lines, w.asked = given, nil, arg
	}
	config, err := linter.ParseLintOptions(option)
	if err != nil {
		e := wrong("write it as skip=RULE,RULE;error=true;experimental=all", "%v", err)
		if ok {
			e.Text = arg + ": " + e.Text
		} else {
			e.Pos = position(w.file.Name, lines)
		}
		return e
	}
	config.Warn = w.warn
	w.config = config
	return nil
}

// newLinter returns what the checks of one more target report to.
func (w *work) newLinter() *linter.Linter {
	if w.quiet {
		return silent()
	}
	w.earlier = map[Warning]bool{}
	for _, warning := range w.warnings {
		w.earlier[warning] = true
	}
	return linter.New(w.config)
}

// warn records a finding. What is found after an error may be its consequence.
func (w *work) warn(rule, description, url, text string, lines []parser.Range) {
	warning := Warning{Pos: position(w.file.Name, lines), Rule: rule, Description: description, Text: text, URL: url}
	if len(w.errors) == 0 && !w.earlier[warning] {
		w.warnings = append(w.warnings, warning)
	}
}

// finish makes errors of findings if that was asked for.
func (w *work) finish() {
	if !w.config.ReturnAsError || len(w.errors) > 0 {
		return
	}
	for i, warning := range w.warnings {
		hint := ""
		if i == len(w.warnings)-1 {
			hint = "findings are errors because " + w.asked + " says error=true"
		}
		w.errors.add(warning.Pos, wrong(hint, "%s: %s", warning.Rule, warning.Text))
	}
}

// notes are about what does nothing: build arguments that no ARG declares, and
// names of checks that there are not.
func (w *work) notes() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(w.opt.BuildArgs)) {
		switch {
		case slices.Contains(effective(), name):
		case w.declared[name]:
		case strings.HasPrefix(name, "BUILDKIT_"):
			all = append(all, "build argument "+name+" has no effect here")
		case predefined(name):
		default:
			note := "build argument " + name + " was not consumed: no ARG declares it"
			if match := nearest(name, slices.Sorted(maps.Keys(w.declared))); match != "" {
				note += " (did you mean " + match + "?)"
			}
			all = append(all, note)
		}
	}
	for _, name := range slices.Concat(w.config.SkipRules, w.config.ExperimentalRules) {
		if name == "" || slices.Contains(ruleNames(), name) {
			continue
		}
		note := fmt.Sprintf("there is no check called %s", name)
		if match := nearest(name, ruleNames()); match != "" {
			note += " (did you mean " + match + "?)"
		}
		all = append(all, note)
	}
	return all
}

// nearest returns the first of the options that are most like word, or "" if none
// is. It is the reference's search, without comparing what cannot be alike.
func nearest(word string, options []string) string {
	const limit = 3 // edits; as many more letters make as many edits
	n := utf8.RuneCountInString(word)
	near := slices.DeleteFunc(slices.Clone(options), func(option string) bool {
		m := utf8.RuneCountInString(option)
		return m-n >= limit || n-m >= limit
	})
	match, _ := suggest.Search(word, near, true)
	return match
}

// ruleNames are the names of all checks.
func ruleNames() []string {
	return []string{
		"ConsistentInstructionCasing", "CopyIgnoredFile", "DuplicateStageName", "ExposeInvalidFormat",
		"ExposeProtoCasing", "FromAsCasing", "FromPlatformFlagConstDisallowed", "InvalidBaseImagePlatform",
		"InvalidDefaultArgInFrom", "InvalidDefinitionDescription", "JSONArgsRecommended", "LegacyKeyValueFormat",
		"MaintainerDeprecated", "MultipleInstructionsDisallowed", "NoEmptyContinuation", "RedundantTargetPlatform",
		"ReservedStageName", "SecretsUsedInArgOrEnv", "StageNameCasing", "UndefinedArgInFrom", "UndefinedVar",
		"WorkdirRelativePath",
	}
}
