package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Groups of commands in the help text.
const (
	groupCommon     = "common"
	groupManagement = "management"
)

// commands is every command of lamina but those of cobra (help, completion).
func commands(e *env) []*cobra.Command {
	return []*cobra.Command{
		newBuild(e), newImages(e), newPull(e), newPush(e),
		newImage(e),
		newHistory(e), newInspect(e), newPrune(e), newRmi(e), newRun(e), newTag(e), newVersion(e),
	}
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, e *env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		report(ctx, e.stderr, err)
	}
	return exitCode(ctx, cmd, err)
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "lamina [OPTIONS] COMMAND",
		Short:         "Build images from Dockerfiles, run them and move them, without a daemon",
		Version:       versionLine(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.fromEnvironment(cmd.Root().PersistentFlags()); err != nil {
				return &usageError{cmd, err}
			}
			return nil
		},
	}
	root.AddGroup(
		&cobra.Group{ID: groupCommon, Title: "Common Commands:"},
		&cobra.Group{ID: groupManagement, Title: "Management Commands:"},
	)
	e.globalFlags(root.PersistentFlags())
	root.Flags().BoolP("version", "v", false, "Print the version and quit")
	root.AddCommand(commands(e)...)
	addHelpFlags(root)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(e.stdout, cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { return writeUsage(e.stderr, cmd) })
	root.SetHelpCommand(newHelp(e))
	return root
}

// addHelpFlags gives cmd and all below it --help, and -h where it means nothing else.
func addHelpFlags(cmd *cobra.Command) {
	shorthand := "h"
	if cmd.Flags().ShorthandLookup(shorthand) != nil {
		shorthand = ""
	}
	cmd.Flags().BoolP("help", shorthand, false, "Print usage")
	cmd.Flags().Lookup("help").Hidden = cmd.HasParent()
	for _, c := range cmd.Commands() {
		addHelpFlags(c)
	}
}

// knownCommand refuses a command that there is not, and says which may have been meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", strings.TrimSpace(cmd.CommandPath()+" "+args[0]))
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		slices.Sort(near)
		err = withHint(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return &usageError{cmd, err}
}

// flagError explains a wrong flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			err = withHint(err, "did you mean --%s?", near)
		}
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = fmt.Errorf("--%s=%s: %w", invalid.GetFlag().Name, invalid.GetValue(), valueError(errors.Unwrap(invalid)))
	}
	return &usageError{cmd, err}
}

// valueError is err without the words of the functions that read numbers.
func valueError(err error) error {
	var number *strconv.NumError
	switch {
	case !errors.As(err, &number):
		return err
	case number.Func == "ParseBool":
		return errors.New("want true or false")
	case errors.Is(err, strconv.ErrRange):
		return errors.New("this is too large a number")
	}
	return errors.New("want a number")
}

// nearestFlag returns the flag of cmd that name is most likely a misspelling of.
func nearestFlag(cmd *cobra.Command, name string) string {
	if len(name) < 2 {
		return "" // a shorthand resembles everything
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return nearest(name, names, min(3, len(name)-1))
}

// nearest returns the first of words that is the least number of edits away from
// word, if that is less than limit.
func nearest(word string, words []string, limit int) string {
	best := ""
	for _, w := range words {
		if d := editDistance(word, w); d < limit {
			best, limit = w, d
		}
	}
	return best
}

// editDistance is the least number of bytes to insert, remove, replace or swap
// with their neighbour that turns a into b.
func editDistance(a, b string) int {
	var before []int // the row above the previous one
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev = prev, row
	}
	return prev[len(b)]
}

// exactArgs and its siblings check the number of arguments, in docker's words.
func exactArgs(n int) cobra.PositionalArgs { return argCount(n, n) }
func minArgs(n int) cobra.PositionalArgs   { return argCount(n, -1) }
func maxArgs(n int) cobra.PositionalArgs   { return argCount(0, n) }

// argCount wants least to most arguments; most may be -1 for any number.
func argCount(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		quantity, n := "", least
		switch {
		case most == 0:
			return &usageError{cmd, fmt.Errorf("'%s' accepts no arguments", cmd.CommandPath())}
		case least != most && len(args) < least:
			quantity = "at least "
		case least != most:
			quantity, n = "at most ", most
		}
		word := "arguments"
		if n == 1 {
			word = "argument"
		}
		return &usageError{cmd, fmt.Errorf("'%s' requires %s%d %s", cmd.CommandPath(), quantity, n, word)}
	}
}
