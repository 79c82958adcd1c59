// Package cachecmd is "lamina cache mounts": the cache mounts of this machine, for
// people and scripts.
package cachecmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lamina/cache/mounts"
	"lamina/cmd/lamina/internal/cli"
)

// New returns "lamina cache mounts".
func New(e *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mounts COMMAND",
		Short: "Manage cache mounts",
		Long: `Manage cache mounts, the directories of RUN --mount=type=cache.

A mount is called by its id, the target of the mount if it has no other. Of several
with the same id but another mode, owner or origin, each is called by its name, or
the beginning of it, as ls shows it.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newList(e), newUsage(e), newExport(e), newImport(e), newRemove(e))
	return cmd
}

// open opens the store's cache mounts; the caller must close them. With use nothing
// is removed from the store meanwhile.
func open(ctx context.Context, e *cli.Env, use bool) (all mounts.Mounts, done func(), err error) {
	store, err := e.OpenStore()
	if err != nil {
		return all, nil, err
	}
	if use {
		if err := store.Use(ctx); err != nil {
			store.Close()
			return all, nil, err
		}
	}
	return mounts.In(store), func() { store.Close() }, nil
}

// find returns the one mount that ref means.
func find(all []mounts.Info, ref string) (mounts.Info, error) {
	found := mounts.Find(all, ref)
	switch len(found) {
	case 0:
		return mounts.Info{}, cli.WithHint(fmt.Errorf("there is no cache mount %s", printable(ref)), `"lamina cache mounts ls" lists them`)
	case 1:
		return found[0], nil
	}
	var names []string
	for _, i := range found {
		names = append(names, fmt.Sprintf("%s (%s)", short(i.Name), describe(i.Spec)))
	}
	return mounts.Info{}, cli.WithHint(fmt.Errorf("%s is the id of %d cache mounts: %s", printable(ref), len(found), strings.Join(names, ", ")),
		"call the one that is meant by its name")
}

// inUse says what to do about a mount that others use.
func inUse(i mounts.Info, err error) error {
	if !errors.Is(err, mounts.ErrInUse) {
		return err
	}
	return cli.WithHint(fmt.Errorf("cache mount %s is in use by a build or a container", printable(i.Spec.ID)), "wait until that has ended, or use --wait")
}

// Columns are shortened to so many characters.
const (
	nameDigits = 12
	stepRunes  = 40
)

// short is the beginning of a name, which is enough to tell it from others, with what
// tells the copies of a private mount apart.
func short(name string) string {
	name, copied, isCopy := strings.Cut(name, "-")
	if len(name) > nameDigits {
		name = name[:nameDigits]
	}
	if isCopy {
		return name + "-" + copied
	}
	return name
}
