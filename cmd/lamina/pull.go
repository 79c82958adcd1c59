package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
)

type pullOptions struct {
	platform, progress string
	quiet              bool
}

func newPull(e *cli.Env) *cobra.Command {
	var opts pullOptions
	cmd := &cobra.Command{
		Use:     "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short:   "Download an image from a registry",
		GroupID: cli.GroupCommon,
		Args:    cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPull(cmd.Context(), e, args[0], opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.platform, "platform", "", cli.PlatformUsage)
	f.Var((*cli.ProgressFlag)(&opts.progress), "progress", progressUsage)
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "Print nothing but the image's name")
	return cmd
}

// progressUsage describes --progress.
const progressUsage = "Form of the progress display: auto, none, plain, quiet, rawjson or tty"

func runPull(ctx context.Context, e *cli.Env, ref string, opts pullOptions) (err error) {
	name, err := registry.ParseName(ref)
	if err != nil {
		return err
	}
	platform, err := e.Platform(opts.platform)
	if err != nil {
		return err
	}
	display, err := cli.NewSteps(e, opts.progress, opts.quiet, "Pulling")
	if err != nil {
		return err
	}
	defer display.Close()
	eng, err := e.OpenEngine(ctx, display)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.CloseEngine(ctx, eng)) }()
	before, _ := eng.Store.Resolve(ctx, name.String()) // there may be none

	step := display.Transfers("pulling " + name.Familiar())
	found, err := eng.Resolve(ctx, ref, platform, engine.PullAlways, display.Warn)
	if err == nil {
		_, err = eng.Pull(ctx, found)
	}
	step.End(err)
	display.Close()
	if err != nil {
		return err
	}
	if !opts.quiet {
		status := "Downloaded newer image for"
		if before.Digest == found.Image.Manifest.Digest {
			status = "Image is up to date for"
		}
		if err := e.Say("Digest: %s\nStatus: %s %s\n", found.Root.Digest, status, name.Familiar()); err != nil {
			return err
		}
	}
	return e.Say("%s\n", name)
}
