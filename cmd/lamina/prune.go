package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lamina/cache"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/collect"
	"lamina/cmd/lamina/internal/human"
)

type pruneOptions struct {
	all, force, dryRun bool
	filter             []string
	keep               cli.ByteSize
	bounded            bool // keep is given
}

func newPrune(e *cli.Env) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove what nothing needs, and as much of the build cache as you say",
		Long: `Remove images without a name, and blobs and unpacked layers that neither an
image nor the build cache needs. Then what exceeds --max-age and --max-size goes,
the least recently used first, and with --keep-storage, --filter or --all more.
Images with a name and what is running are never removed.`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := collect.ParseFilter(o.filter)
			if err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			o.bounded = cmd.Flags().Changed("keep-storage")
			return runPrune(cmd.Context(), e, o, filter)
		},
	}
	f := cmd.Flags()
	f.SortFlags = true
	f.BoolVarP(&o.all, "all", "a", false, "Also remove the build cache and the cache mounts")
	f.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	f.BoolVar(&o.dryRun, "dry-run", false, "Only show what would be removed")
	f.StringArrayVar(&o.filter, "filter", nil, filterUsage)
	f.Var(&o.keep, "keep-storage", "Remove what was least recently used until the store takes no\nmore (also --max-used-space and --reserved-space)")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "max-used-space", "reserved-space": // buildx's
			name = "keep-storage"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

func runPrune(ctx context.Context, e *cli.Env, o pruneOptions, filter collect.Filter) error {
	if !o.force && !o.dryRun {
		yes, err := e.Confirm(ctx, o.warning()+"\nAre you sure you want to continue?")
		if err != nil || !yes {
			return err
		}
	}
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	r, err := collect.Prune(ctx, store, collect.PruneOptions{
		All: o.all, Filter: filter, Limits: e.Limits(), DryRun: o.dryRun,
		Keep: int64(o.keep), Bounded: o.bounded,
	})
	if errors.Is(err, cache.ErrInUse) {
		return cli.WithHint(err, "wait until it has ended")
	}
	if err != nil {
		return err
	}
	if o.dryRun {
		return tellDryRun(e, r)
	}
	return tellPruned(e, r)
}

// warning says what is going to be removed.
func (o pruneOptions) warning() string {
	var what []string
	until := ", until the store takes " + human.Size(int64(o.keep))
	switch {
	case len(o.filter) > 0 && o.bounded:
		what = []string{"what matches " + strings.Join(o.filter, " and ") + until}
	case len(o.filter) > 0:
		what = []string{"what matches " + strings.Join(o.filter, " and ")}
	default:
		what = []string{"all images without a name", "all blobs and layers that nothing refers to"}
		if o.bounded {
			what = append(what, "what was least recently used"+until)
		} else if o.all {
			what = append(what, "the build cache, and the cache mounts")
		}
	}
	return "WARNING! This will remove:\n  - " + strings.Join(what, "\n  - ") + "\n"
}

func tellPruned(e *cli.Env, r collect.Report) error {
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

// tellDryRun lists what would go, in the order in which it would.
func tellDryRun(e *cli.Env, r collect.Report) error {
	list := cli.Rows[duRow]{
		Table:    "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.LastUsedSince}}\t{{.Description}}",
		Headings: duRow{ID: "ID", Type: "TYPE", Size: "SIZE", LastUsedSince: "LAST USED", Description: "DESCRIPTION"},
	}
	now := time.Now()
	for _, i := range r.Items {
		title := i.Title
		if i.Why == collect.BySize || i.Why == collect.ByAge {
			title = strings.TrimSpace(fmt.Sprintf("%s (%s)", title, i.Why))
		}
		list.Items = append(list.Items, duRow{
			ID: shortUnit(strings.TrimPrefix(i.ID, "sha256:")), Type: string(i.Kind), Size: human.Size(i.Bytes),
			LastUsedSince: human.Ago(i.Used, now), Description: truncated(title, 72),
		})
	}
	if len(list.Items) > 0 {
		if err := list.Write(e.Stdout, ""); err != nil {
			return err
		}
		if err := e.Say("\n"); err != nil {
			return err
		}
	}
	return e.Say("Would reclaim: %s\n", human.Size(r.Bytes))
}
