package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/human"
	"lamina/cmd/lamina/internal/progress"
)

// newBuilds returns "lamina builds", the commands for what is remembered of builds.
func newBuilds(e *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "builds COMMAND",
		Short:   "Manage remembered builds",
		GroupID: cli.GroupManagement,
		Long: fmt.Sprintf(`Manage remembered builds.

What each build was asked for, what became of each of its steps and what these
printed is remembered: of the last %d builds, for %d days.

BUILD is an ID or its beginning, "latest" (the default), "^1" for the one before
that, or the name, digest or ID of an image: that is the latest build of it.`,
			builds.DefaultLimits().Builds, builds.DefaultLimits().Age/(24*time.Hour)),
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBuildsLogs(e), newBuildsLs(e), newBuildsRm(e), newBuildsShow(e))
	return cmd
}

// withBuilds calls do with the remembered builds.
func withBuilds(e *cli.Env, do func(*builds.Store) error) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	return do(builds.In(store))
}

// findBuild returns the build that the first of args names; the latest, if there
// are none.
func findBuild(s *builds.Store, args []string) (*builds.Build, error) {
	id, err := s.Find(strings.Join(args[:min(1, len(args))], ""))
	if err != nil {
		return nil, err
	}
	return s.Get(id)
}

type buildsLsOptions struct {
	quiet   bool
	last    int
	format  string
	filters []string
}

// buildRow has the fields of a build, in the order of its JSON.
type buildRow struct {
	Context, CreatedAt, CreatedSince, Dockerfile, Duration, Error, ID, Name, Platforms, Status, Steps, Targets string
}

func newBuildsLs(e *cli.Env) *cobra.Command {
	var opts buildsLsOptions
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List remembered builds",
		Long: `List remembered builds, the latest first.

STEPS is how many of those that were looked up or executed were cached. A filter
compares the status (running, succeeded, failed, canceled, killed), a part of the
name or the context with = or !=, and duration, startedAt or completedAt with < or >:
"status=failed", "duration>30s", "startedAt>24h".`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBuilds(e, func(s *builds.Store) error { return listBuilds(e, s, opts) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&opts.filters, "filter", nil, "Show only builds that match, as KEY=VALUE")
	f.StringVar(&opts.format, "format", "", cli.FormatUsage)
	f.IntVarP(&opts.last, "last", "n", 0, "Show only the last N builds (default: all)")
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "Only show IDs")
	return cmd
}

func listBuilds(e *cli.Env, s *builds.Store, opts buildsLsOptions) error {
	now := time.Now()
	var filters []builds.Filter
	for _, text := range opts.filters {
		f, err := builds.ParseFilter(text, now)
		if err != nil {
			return err
		}
		filters = append(filters, f)
	}
	all, err := s.All()
	if err != nil {
		return err
	}
	list := cli.Rows[buildRow]{
		Table: "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Steps}}\t{{.CreatedSince}}\t{{.Duration}}",
		Headings: buildRow{
			Context: "CONTEXT", CreatedAt: "CREATED AT", CreatedSince: "CREATED", Dockerfile: "DOCKERFILE", Duration: "DURATION", Error: "ERROR",
			ID: "BUILD ID", Name: "NAME", Platforms: "PLATFORMS", Status: "STATUS", Steps: "STEPS", Targets: "TARGETS",
		},
	}
	for b, err := range all {
		if err != nil {
			e.Logger().Warn(err.Error())
			continue
		}
		if !matchesAll(b, filters) {
			continue
		}
		list.Items = append(list.Items, rowOf(b, now))
		if len(list.Items) == opts.last {
			break
		}
	}
	if opts.quiet && opts.format == "" {
		opts.format = "{{.ID}}"
	}
	return list.Write(e.Stdout, opts.format)
}

func matchesAll(b *builds.Build, filters []builds.Filter) bool {
	for _, f := range filters {
		if !f(b) {
			return false
		}
	}
	return true
}

func rowOf(b *builds.Build, now time.Time) buildRow {
	return buildRow{
		ID: b.ID, Name: b.Title(), Status: string(b.Status), Steps: b.Count().String(), Error: b.Error,
		CreatedAt: createdAt(b.Started), CreatedSince: human.Ago(b.Started, now), Duration: human.Took(b.Took(now)),
		Context: b.Context, Dockerfile: b.Dockerfile, Platforms: strings.Join(b.Platforms, ","), Targets: strings.Join(b.Targets, ","),
	}
}

func newBuildsShow(e *cli.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "show [OPTIONS] [BUILD]",
		Aliases: []string{"inspect"},
		Short:   "Show what is remembered of a build",
		Long: `Show what is remembered of a build: what was asked for, what came of it, and each
step with what became of it and how long that took. The time of a step that was
cached is in brackets: it is that of the build that executed it.`,
		Args:              cli.MaxArgs(1),
		ValidArgsFunction: completeBuilds(e, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			return withBuilds(e, func(s *builds.Store) error {
				b, err := findBuild(s, args)
				if err != nil {
					return err
				}
				switch format {
				case "":
					return b.Write(e.Stdout, time.Now())
				case "json":
					return e.SayJSON(b)
				}
				return cli.Rows[*builds.Build]{Items: []*builds.Build{b}}.Write(e.Stdout, format)
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `Format output: "json" for everything, or a Go template`)
	return cmd
}

func newBuildsLogs(e *cli.Env) *cobra.Command {
	var follow bool
	var mode cli.ProgressFlag
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] [BUILD [STEP]]",
		Short: "Show what a build printed",
		Long: `Show what a build printed, as --progress=plain showed it or would have. Of one
STEP it is just what that printed, to the byte.

STEP is a number of 'lamina builds show', a line of the Dockerfile (":12"), or a
part of the step's name that no other has ("build 3/7").`,
		Args:              cli.MaxArgs(2),
		ValidArgsFunction: completeBuilds(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBuilds(e, func(s *builds.Store) error {
				b, err := findBuild(s, args)
				if err != nil {
					return err
				}
				if len(args) == 2 {
					return stepLog(cmd.Context(), e.Stdout, s, b, args[1], follow)
				}
				return buildLog(cmd.Context(), e, s, b, string(mode), follow)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "Go on until the build ends")
	f.Var(&mode, "progress", "Form of the output: plain (default) or rawjson")
	return cmd
}

func buildLog(ctx context.Context, e *cli.Env, s *builds.Store, b *builds.Build, mode string, follow bool) error {
	if mode == "" {
		mode = string(progress.Plain)
	}
	display, err := progress.New(progress.Mode(mode), e.Stdout, progress.Options{
		Getenv: e.Getenv, Log: e.Logger(), Past: !follow,
	})
	if err != nil {
		return err
	}
	defer display.Close()
	return s.Replay(ctx, b.ID, follow, display.Event)
}

func stepLog(ctx context.Context, w io.Writer, s *builds.Store, b *builds.Build, ref string, follow bool) error {
	i, err := b.FindStep(ref)
	if err != nil {
		return err
	}
	if b.Steps[i].Log == 0 {
		if id, n, ok := s.Executed(b, i); ok {
			return cli.WithHint(fmt.Errorf("step %d of build %s was cached, and printed nothing", i+1, b.ID),
				"'lamina builds logs %s %d' is what it printed when it was executed", id, n+1)
		}
	}
	return s.StepLog(ctx, b.ID, i, follow, w)
}

type buildsRmOptions struct {
	all       bool
	olderThan string
}

func newBuildsRm(e *cli.Env) *cobra.Command {
	var opts buildsRmOptions
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] [BUILD...]",
		Aliases: []string{"remove"},
		Short:   "Forget builds",
		Long: `Forget builds and their logs. Their images stay, and so do the steps that the
build cache remembers. A build that is running is not forgotten.`,
		ValidArgsFunction: completeBuilds(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch all := opts.all || opts.olderThan != ""; {
			case all && len(args) > 0:
				return &cli.UsageError{Cmd: cmd, Err: errors.New("name the builds, or give --all or --older-than, not both")}
			case !all && len(args) == 0:
				return &cli.UsageError{Cmd: cmd, Err: errors.New("no build is named: name some, or give --all or --older-than")}
			}
			return withBuilds(e, func(s *builds.Store) error {
				if len(args) > 0 {
					return removeBuilds(e, s, args)
				}
				return removeOldBuilds(e, s, opts)
			})
		},
	}
	cmd.Flags().BoolVarP(&opts.all, "all", "a", false, "Forget all builds that are not running")
	cmd.Flags().StringVar(&opts.olderThan, "older-than", "", "Forget builds that began longer ago, as 12h or 7d")
	return cmd
}

func removeBuilds(e *cli.Env, s *builds.Store, refs []string) error {
	// All are found first: "^1" is another build once one was removed.
	var errs []error
	var ids []string
	for _, ref := range refs {
		id, err := s.Find(ref)
		errs = append(errs, err)
		if err == nil {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		err := s.Remove(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was named twice
		}
		if err == nil {
			err = e.Say("%s\n", id)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func removeOldBuilds(e *cli.Env, s *builds.Store, opts buildsRmOptions) error {
	var age time.Duration
	if opts.olderThan != "" {
		var err error
		if age, err = human.ParseDuration(opts.olderThan); err != nil {
			return fmt.Errorf("--older-than: %w", err)
		}
	}
	all, err := s.Sizes()
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range all {
		if b.Running || time.Since(b.Began) < age {
			continue
		}
		err := s.Remove(b.ID)
		if errors.Is(err, builds.ErrRunning) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = e.Say("%s\n", b.ID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// completeBuilds completes the IDs of builds, for as many arguments as most says;
// any number if it is negative.
func completeBuilds(e *cli.Env, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		err := e.FromEnvironment(cmd.Root().PersistentFlags())
		if err == nil {
			err = withBuilds(e, func(s *builds.Store) (err error) { ids, err = s.IDs(); return err })
		}
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}
