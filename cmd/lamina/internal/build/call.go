package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lamina/cmd/lamina/internal/cli"
	"lamina/frontend"
)

// call is a question about a Dockerfile that is answered in place of a build.
type call struct {
	name         string // check, outline or targets
	json         bool   // the answer is for a program
	ignoreStatus bool   // warnings of check do not fail it
}

// callNames are the values of --call; "lint" is an old name of check.
func callNames() []string { return []string{"build", "check", "outline", "targets", "lint"} }

// parseCall parses "NAME[,format=json|text][,ignorestatus=BOOL]". Of a build, which
// asks nothing, it returns nil.
func parseCall(s string) (*call, error) {
	if s == "" {
		return nil, nil
	}
	fields, err := csvFields(s)
	if err != nil {
		return nil, err
	}
	c := &call{}
	for _, f := range fields {
		switch {
		case f.key == "format" && cli.OneOf(f.value, "json", "text", ""):
			c.json = f.value == "json"
		case f.key == "format":
			return nil, fmt.Errorf("unknown format %q, want json or text", f.value)
		case f.key == "ignorestatus":
			if c.ignoreStatus, err = strconv.ParseBool(f.value); err != nil {
				return nil, fmt.Errorf("ignorestatus=%s: want true or false", f.value)
			}
		case f.value != "":
			return nil, fmt.Errorf("unknown option %q, want format or ignorestatus", f.key)
		case c.name != "":
			return nil, fmt.Errorf("it asks for both %s and %s", c.name, f.key)
		default:
			c.name = f.key
		}
	}
	switch {
	case cli.OneOf(c.name, "", "build"):
		return nil, nil
	case c.name == "lint":
		c.name = "check"
	case !slices.Contains(callNames(), c.name):
		return nil, fmt.Errorf("there is no method %q, want build, check, outline or targets", c.name)
	}
	return c, nil
}

// runCall answers the question instead of building.
func (b *build) runCall(ctx context.Context, in *input) error {
	switch b.call.name {
	case "check":
		return b.check(ctx, in)
	case "outline":
		return b.outline(ctx, in)
	}
	return b.targets(in)
}

// check says what the checks find. Findings are a failure.
func (b *build) check(ctx context.Context, in *input) error {
	report, err := frontend.Check(ctx, in.name, in.source, &resolver{b}, b.lowering)
	if err != nil {
		return err
	}
	for _, note := range report.Notes {
		b.display.Warn(note)
	}
	b.display.Close()
	failure := report.Error
	if len(report.Failed) > 0 {
		failure = &frontend.Error{Text: "lint violation found for rules: " + strings.Join(report.Failed, ", ")}
	}
	if b.call.json {
		err = b.SayJSON(checkJSON(in, report.Warnings, failure))
	} else {
		err = b.Say("%s", checkText(in, report.Warnings, failure != nil))
	}
	switch {
	case err != nil:
		return err
	case report.Error != nil:
		return b.failed(frontend.ErrorList{report.Error}, in.source)
	case failure != nil:
		return errors.New(failure.Text)
	case len(report.Warnings) > 0 && !b.call.ignoreStatus:
		return &cli.ExitError{Code: cli.ExitFailure}
	}
	return nil
}

// outline says what can be given to the target's build.
func (b *build) outline(ctx context.Context, in *input) error {
	file, err := frontend.Parse(in.name, in.source)
	if err != nil {
		return b.failed(err, in.source)
	}
	o, err := frontend.Describe(ctx, file, &resolver{b}, b.lowering)
	if err != nil {
		return b.failed(err, in.source)
	}
	b.remark(remarks{o.Warnings, o.Notes})
	b.display.Close()
	if b.call.json {
		return b.SayJSON(outlineJSON(in, o))
	}
	return b.Say("%s", outlineText(o))
}

// targets lists the stages.
func (b *build) targets(in *input) error {
	list, err := frontend.Targets(in.name, in.source)
	if err != nil {
		return b.failed(err, in.source)
	}
	b.display.Close()
	if b.call.json {
		return b.SayJSON(targetsJSON(in, list))
	}
	return b.Say("%s", targetsText(list))
}

// callFlag is --call, and --check when it is given a fixed value.
type callFlag struct {
	value *string
	fixed string
}

func (f *callFlag) String() string {
	if f.value == nil || f.fixed != "" {
		return ""
	}
	return cmp.Or(*f.value, "build")
}

func (f *callFlag) Set(s string) error {
	if f.fixed == "" {
		*f.value = s
		return nil
	}
	on, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	if on {
		*f.value = f.fixed
	}
	return nil
}

// Type names the kind of value in help texts.
func (f *callFlag) Type() string {
	if f.fixed != "" {
		return "bool"
	}
	return "string"
}
