package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"lamina/cache"
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

BUILD is the ID of a build, or its beginning; the last one if there is none. STEP
is the number of a step, its stage and number ("build 3/7"), its line
("Dockerfile:12") or the beginning of its text; of one step all is said that is
known, with the steps between it and the cause.`,
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

func runWhy(ctx context.Context, e *cli.Env, args []string, asJSON bool) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	b, name, err := whichBuild(store, args)
	if err != nil {
		return err
	}
	history, err := explain.Stored(ctx, store, b.ID)
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

// whichBuild is the build that args name, and the step, if they name one. What is not
// the ID of a build is a step of the last.
func whichBuild(store *cache.Store, args []string) (*builds.Build, string, error) {
	all := builds.In(store)
	ids, err := all.IDs()
	if err != nil {
		return nil, "", err
	}
	if len(ids) == 0 {
		return nil, "", errors.New("no build is remembered here")
	}
	id, step := ids[0], ""
	if len(args) > 0 {
		var found []string
		for _, other := range ids {
			if strings.HasPrefix(other, args[0]) {
				found = append(found, other)
			}
		}
		switch {
		case len(found) == 1:
			id, args = found[0], args[1:]
		case len(args) == 2 && len(found) == 0:
			return nil, "", cli.WithHint(fmt.Errorf("build %q: %w", args[0], fs.ErrNotExist), "'lamina builds ls' lists them")
		case len(args) == 2:
			return nil, "", fmt.Errorf("%q is the beginning of %d builds", args[0], len(found))
		}
	}
	if len(args) > 0 {
		step = args[0]
	}
	b, err := all.Get(id)
	return b, step, err
}

// whyStep says why one step was executed, or that it was not.
func whyStep(e *cli.Env, b *builds.Build, report *explain.Report, name string, asJSON bool) error {
	step, err := explain.Find(b, name)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.WithHint(fmt.Errorf("build %s has no step %q", b.ID, name), "'lamina builds show %s' lists them", b.ID)
	}
	if err != nil {
		return err
	}
	x, ran := report.Lookup(step)
	switch {
	case !ran && asJSON:
		return writeJSON(e, report.Only(step.ID))
	case !ran:
		_, err := fmt.Fprintf(e.Stdout, "%s was not executed: %s.\n", step, explain.Fate(b, step))
		return err
	case asJSON:
		return writeJSON(e, report.Only(step.ID))
	}
	return report.WriteStep(e.Stdout, x)
}

func writeJSON(e *cli.Env, v any) error {
	text, err := cli.ToJSON(v)
	if err == nil {
		_, err = fmt.Fprintln(e.Stdout, text)
	}
	return err
}
