package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"lamina/cache"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/collect"
	"lamina/cmd/lamina/internal/human"
)

func newPrune(e *cli.Env) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove what nothing refers to",
		Long: `Remove images without a name, and blobs and unpacked layers that neither an
image nor the build cache refers to. With --all the build cache goes, too.`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPrune(cmd.Context(), e, all, force)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Also remove the build cache and the cache mounts")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	return cmd
}

func runPrune(ctx context.Context, e *cli.Env, all, force bool) error {
	if !force {
		warning := "WARNING! This will remove:\n  - all images without a name\n  - all blobs and layers that nothing refers to\n"
		if all {
			warning += "  - the build cache, and the cache mounts\n"
		}
		yes, err := e.Confirm(ctx, warning+"\nAre you sure you want to continue?")
		if err != nil || !yes {
			return err
		}
	}
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	c, err := openCatalog(store)
	if err != nil {
		return err
	}
	r, err := collect.Prune(ctx, store, c.pool, collect.Options{Cache: all})
	if errors.Is(err, cache.ErrInUse) {
		return cli.WithHint(err, "wait until it has ended")
	}
	if err != nil {
		return err
	}
	if len(r.Images) > 0 {
		if err := e.Say("Deleted Images:\n"); err != nil {
			return err
		}
		for _, d := range r.Images {
			if err := e.Say("deleted: %s\n", d); err != nil {
				return err
			}
		}
		if err := e.Say("\n"); err != nil {
			return err
		}
	}
	return e.Say("Total reclaimed space: %s\n", human.Size(r.Bytes))
}
