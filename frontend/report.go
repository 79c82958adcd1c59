package frontend

import (
	"context"
	"slices"

	"lamina/solver"
)

// Report is what the checks say of a Dockerfile.
type Report struct {
	// Warnings are in the order in which they were found.
	Warnings []Warning
	// Error is why the checks went no further; what comes after it in the file has
	// not been looked at.
	Error *Error
	// Failed names the rules whose findings are errors, because the file or a build
	// argument says so; nil if there are none, or if they are but warnings.
	Failed []string
	// Notes are as those of a [Build].
	Notes []string
}

// Check checks the Dockerfile src as a build of opt's targets would, or all of its
// stages if opt names none. It is the reference's request "frontend.lint", and like
// that takes no notice of opt.Platforms. The error is a context's.
func Check(ctx context.Context, name string, src []byte, r Resolver, opt Options) (*Report, error) {
	f, err := read(name, src)
	if err != nil {
		return &Report{Error: at(solver.Pos{File: name}, err)}, nil
	}
	opt.Allow = everything()
	w := newWork(f, r, opt)
	w.everyStage = len(opt.Targets) == 0
	if err := w.prepare(); err != nil {
		return &Report{Error: at(solver.Pos{File: name}, err)}, nil
	}
	for _, name := range w.opt.Targets {
		if len(w.errors) == 0 {
			w.newLowering(nil).lower(ctx, name)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	report := &Report{Warnings: w.warnings, Notes: w.notes()}
	if len(w.errors) > 0 {
		report.Error = w.errors[0]
	} else if w.config.ReturnAsError {
		report.Failed = rulesOf(w.warnings)
	}
	return report, nil
}

// everything allows everything: nothing is run.
func everything() Allow { return Allow{NetworkHost: true, Insecure: true} }

// rulesOf are the names of the rules that found something, each once and sorted.
func rulesOf(warnings []Warning) []string {
	var names []string
	for _, w := range warnings {
		names = append(names, w.Rule)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
