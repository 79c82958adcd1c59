package cachecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lamina/cache/mounts"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/human"
)

// removeOptions say which mounts are removed, beside those that are named.
type removeOptions struct {
	all, wait bool
	filters   []string
}

func newRemove(e *cli.Env) *cobra.Command {
	var o removeOptions
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] [ID...]",
		Aliases: []string{"remove"},
		Short:   "Remove cache mounts",
		Long: `Remove cache mounts: those that are named, all, or those that all filters match:

  id=PATTERN    whose id matches, as of path.Match
  until=AGE     not used for so long, such as 240h

A build that needs one afterwards begins with an empty one. What is in use is not
removed: that is an error for one that is named, and said of others.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if chosen := o.all || len(o.filters) > 0; chosen == (len(args) > 0) {
				return &cli.UsageError{Cmd: cmd, Err: errors.New("name cache mounts, or use --all or --filter")}
			}
			return runRemove(cmd.Context(), e, o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Remove all cache mounts")
	f.StringArrayVar(&o.filters, "filter", nil, "Remove those that match (id=PATTERN, until=AGE)")
	f.BoolVar(&o.wait, "wait", false, "Wait until nobody uses them")
	return cmd
}

func runRemove(ctx context.Context, e *cli.Env, o removeOptions, refs []string) error {
	match, err := o.filter()
	if err != nil {
		return err
	}
	all, done, err := open(ctx, e, true)
	if err != nil {
		return err
	}
	defer done()
	infos, err := all.List(ctx)
	if err != nil {
		return err
	}
	var chosen []mounts.Info
	for _, ref := range refs {
		i, err := find(infos, ref)
		if err != nil {
			return err
		}
		chosen = append(chosen, withCopies(infos, i)...)
	}
	for _, i := range infos {
		if len(refs) == 0 && match(i) {
			chosen = append(chosen, i)
		}
	}
	var freed int64
	for _, i := range chosen {
		err := remove(ctx, all, i, o.wait)
		switch {
		case errors.Is(err, fs.ErrNotExist): // somebody else did, or it was named twice
			continue
		case errors.Is(err, mounts.ErrInUse) && len(refs) == 0:
			fmt.Fprintf(e.Stderr, "lamina: cache mount %s is in use, and stays\n", printable(i.Spec.ID))
			continue
		case err != nil:
			return inUse(i, err)
		}
		freed += i.Disk
		if err := e.Say("removed: %s %s\n", short(i.Name), printable(i.Spec.ID)); err != nil {
			return err
		}
	}
	return e.Say("Total reclaimed space: %s\n", human.Size(freed))
}

// withCopies is a mount and the further directories of it, if it is private.
func withCopies(all []mounts.Info, of mounts.Info) []mounts.Info {
	found := []mounts.Info{of}
	for _, i := range all {
		if strings.HasPrefix(i.Name, of.Name+"-") {
			found = append(found, i)
		}
	}
	return found
}

func remove(ctx context.Context, all mounts.Mounts, i mounts.Info, wait bool) error {
	release, err := all.Alone(ctx, i.Name, wait)
	if err != nil {
		return err
	}
	defer release()
	return all.Remove(i.Name)
}

// filter returns what tells whether a mount matches all filters.
func (o removeOptions) filter() (func(mounts.Info) bool, error) {
	var all []func(mounts.Info) bool
	for _, f := range o.filters {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "id":
			if _, err := path.Match(value, ""); err != nil || value == "" {
				return nil, fmt.Errorf("--filter=%s: want id=PATTERN", f)
			}
			all = append(all, func(i mounts.Info) bool { ok, _ := path.Match(value, i.Spec.ID); return ok || value == i.Spec.ID })
		case "until":
			age, err := time.ParseDuration(value)
			if err != nil || age < 0 {
				return nil, fmt.Errorf("--filter=%s: want an age such as until=240h", f)
			}
			before := time.Now().Add(-age)
			all = append(all, func(i mounts.Info) bool { return i.Used.Before(before) })
		default:
			return nil, cli.WithHint(fmt.Errorf("--filter=%s: unknown filter", f), "the filters are id=PATTERN and until=AGE")
		}
	}
	return func(i mounts.Info) bool {
		for _, match := range all {
			if !match(i) {
				return false
			}
		}
		return true
	}, nil
}
