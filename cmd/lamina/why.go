package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/explain"
)

// whyFiles is how many differing files are listed of one step.
const whyFiles = 20

func newWhy(e *cli.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "why [OPTIONS] [BUILD] [STEP]",
		Short: "Say why steps of a build were executed and not taken from the cache",
		Long: `Say why steps of a build were executed and not taken from the cache.

BUILD and STEP are as for 'lamina builds logs': the latest build if none is named, and
a step's number, line (":12"), stage and number ("build 3/7") or a part of its text.
Of one step all is said that is known, with the steps between it and the cause.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && format != "json" {
				return &cli.UsageError{Cmd: cmd, Err: fmt.Errorf("--format=%s: want json", format)}
			}
			return runWhy(cmd.Context(), e, args, format == "json")
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `Form of the answer: "json", or text`)
	return cmd
}

func runWhy(ctx context.Context, e *cli.Env, args []string, asJSON bool) (err error) {
	eng, err := e.OpenEngine(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.CloseEngine(ctx, eng)) }()
	b, name, err := whichBuild(builds.In(eng.Store), args)
	if err != nil {
		return err
	}
	history, err := explain.Stored(ctx, eng.Store, eng.Blobs, b.ID)
	if err != nil {
		return err
	}
	history.Files = whyFiles
	report, err := explain.Build(b, history)
	if err != nil {
		return err
	}
	if name != "" {
		return whyStep(e, b, report, name, asJSON)
	}
	if asJSON {
		return writeJSON(e, report)
	}
	return report.WriteText(e.Stdout)
}

// whichBuild is the build that args name, and the step, if they name one. What alone
// may be either is a step of the latest build, unless it is the ID of a build.
func whichBuild(store *builds.Store, args []string) (*builds.Build, string, error) {
	if len(args) == 2 {
		b, err := findBuild(store, args)
		return b, args[1], err
	}
	latest, err := findBuild(store, nil)
	if err != nil || len(args) == 0 {
		return latest, "", err
	}
	const minID = 4 // digits
	ref := args[0]
	id, err := store.Find(ref)
	isID := err == nil && len(ref) >= minID && strings.HasPrefix(id, ref) || ref == "latest" || strings.HasPrefix(ref, "^")
	if _, serr := latest.FindStep(ref); err != nil && !isID || serr == nil && !isID {
		return latest, ref, nil
	}
	if err != nil {
		return nil, "", err
	}
	b, err := store.Get(id)
	return b, "", err
}

// whyStep says why one step was executed, or that it was not.
func whyStep(e *cli.Env, b *builds.Build, report *explain.Report, name string, asJSON bool) error {
	at, err := b.FindStep(name)
	if err != nil {
		return err
	}
	step := explain.StepOf(b, at)
	x, ran := report.Lookup(step)
	switch {
	case asJSON:
		return writeJSON(e, report.Only(step))
	case ran:
		return report.WriteStep(e.Stdout, x)
	}
	_, err = fmt.Fprintf(e.Stdout, "%s was not executed: %s.\n", step, explain.Fate(b, step))
	return err
}

func writeJSON(e *cli.Env, v any) error {
	text, err := cli.ToJSON(v)
	if err == nil {
		_, err = fmt.Fprintln(e.Stdout, text)
	}
	return err
}
