package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lamina/cache"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/fsck"
	"lamina/snapshot/layer"
)

func newFsck(e *cli.Env) *cobra.Command {
	var repair bool
	var format string
	cmd := &cobra.Command{
		Use:   "fsck [OPTIONS]",
		Short: "Check the store for damage",
		Long: `Read all blobs, unpacked layers and records of the store, and what else is in it, and
compare them with what they were when they were put there. With --repair, what is damaged
is forgotten, and will be made or fetched again by whoever needs it; what is good stays.

The exit code is 0 if there is no damage, or all of it was repaired, and 1 if there is.`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cli.OneOf(format, "text", "json") {
				return &cli.UsageError{Cmd: cmd, Err: errors.New("--format is text or json")}
			}
			return runFsck(cmd.Context(), e, repair, format == "json")
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "Forget what is damaged")
	cmd.Flags().StringVar(&format, "format", "text", "Print the findings as `text` or json")
	return cmd
}

func runFsck(ctx context.Context, e *cli.Env, repair, asJSON bool) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	pool, err := layer.OpenPool(store.Path("layers"), store.Temp)
	if err != nil {
		return err
	}
	show, end, err := fsckProgress(e)
	if err != nil {
		return err
	}
	r, err := fsck.Check(ctx, store, pool, fsck.Options{Repair: repair, Progress: show})
	end(err)
	if errors.Is(err, cache.ErrInUse) {
		return cli.WithHint(err, "wait until it has ended, or check without --repair")
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = e.SayJSON(r)
	} else {
		err = r.Write(e.Stdout, repair)
	}
	if err == nil && r.Damaged() > 0 {
		return &cli.ExitError{Code: cli.ExitFailure}
	}
	return err
}

// fsckProgress returns what shows on a terminal how far a check is, and what ends that.
func fsckProgress(e *cli.Env) (show func(fsck.Part, int64, int64), end func(error), err error) {
	if f, ok := e.Stderr.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func(error) {}, nil
	}
	display, err := cli.NewSteps(e, "", false, "Checking")
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	var part fsck.Part
	var step *cli.Step
	show = func(p fsck.Part, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if p != part {
			if step != nil {
				step.End(nil)
			}
			part, step = p, display.Begin("check "+string(p))
		}
		if p == fsck.Blobs { // the others are not counted in bytes
			step.Bytes("read", done, total)
		}
	}
	return show, func(err error) {
		if step != nil {
			step.End(err)
		}
		display.Close()
	}, nil
}
