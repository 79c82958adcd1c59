package main

import (
	"context"

	"github.com/spf13/cobra"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/engine"
)

type pullOptions struct {
	platform, progress string
	quiet              bool
}

func newPull(e *env) *cobra.Command {
	var opts pullOptions
	cmd := &cobra.Command{
		Use:     "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short:   "Download an image from a registry",
		GroupID: groupCommon,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPull(cmd.Context(), e, args[0], opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.platform, "platform", "", platformUsage)
	f.Var((*progressFlag)(&opts.progress), "progress", progressUsage)
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "Print nothing but the image's name")
	return cmd
}

// progressUsage describes --progress.
const progressUsage = "Form of the progress display: auto, none, plain, quiet, rawjson or tty"

func runPull(ctx context.Context, e *env, ref string, opts pullOptions) error {
	name, err := registry.ParseName(ref)
	if err != nil {
		return err
	}
	platform, err := e.platform(opts.platform)
	if err != nil {
		return err
	}
	display, err := newSteps(e, opts.progress, opts.quiet, "Pulling")
	if err != nil {
		return err
	}
	defer display.Close()
	eng, err := e.openEngine(ctx, display)
	if err != nil {
		return err
	}
	defer eng.Close()
	before, _ := eng.Store.Resolve(ctx, name.String()) // there may be none

	step := display.transfers("pulling " + name.Familiar())
	found, err := eng.Resolve(ctx, ref, platform, engine.PullAlways, display.warn)
	if err == nil {
		_, err = eng.Pull(ctx, found)
	}
	step.end(err)
	display.Close()
	if err != nil {
		return err
	}
	if !opts.quiet {
		status := "Downloaded newer image for"
		if before.Digest == found.Image.Manifest.Digest {
			status = "Image is up to date for"
		}
		if err := e.say("Digest: %s\nStatus: %s %s\n", found.Root.Digest, status, name.Familiar()); err != nil {
			return err
		}
	}
	return e.say("%s\n", name)
}
