package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lamina/cmd/lamina/internal/build"
	"lamina/cmd/lamina/internal/cli"
)

// commands is every command of lamina but those of cobra (help, completion).
func commands(e *cli.Env) []*cobra.Command {
	return []*cobra.Command{
		build.New(e), build.NewContext(e), newImages(e), newPull(e), newPush(e),
		newBuilds(e), newCache(e), newImage(e),
		newDu(e), newFsck(e), newHistory(e), newInspect(e), newPrune(e), newRmi(e), newRun(e), newTag(e), newVersion(e), newWhy(e),
	}
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, e *cli.Env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		cli.Report(ctx, e.Stderr, err)
	}
	return cli.ExitCode(ctx, cmd, err)
}

func newRoot(e *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:           "lamina [OPTIONS] COMMAND",
		Short:         "Build images from Dockerfiles, run them and move them, without a daemon",
		Version:       versionLine(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.FromEnvironment(cmd.Root().PersistentFlags()); err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			return nil
		},
	}
	root.AddGroup(
		&cobra.Group{ID: cli.GroupCommon, Title: "Common Commands:"},
		&cobra.Group{ID: cli.GroupManagement, Title: "Management Commands:"},
	)
	e.GlobalFlags(root.PersistentFlags())
	root.Flags().BoolP("version", "v", false, "Print the version and quit")
	root.AddCommand(commands(e)...)
	addHelpFlags(root)
	root.SetIn(e.Stdin)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(e.Stdout, cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { return writeUsage(e.Stderr, cmd) })
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
		err = cli.WithHint(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return &cli.UsageError{Cmd: cmd, Err: err}
}

// flagError explains a wrong flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			err = cli.WithHint(err, "did you mean --%s?", near)
		}
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = fmt.Errorf("--%s=%s: %w", invalid.GetFlag().Name, invalid.GetValue(), cli.ValueError(errors.Unwrap(invalid)))
	}
	return &cli.UsageError{Cmd: cmd, Err: err}
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
	return cli.Nearest(name, names, min(3, len(name)-1))
}
