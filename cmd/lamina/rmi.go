package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cache"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/collect"
)

func newRmi(e *cli.Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove one or more images",
		Long: `Remove one or more images.

An image that has several names loses the one that is given. With its last name
it is deleted, and so is what no other image needs. Steps that the build cache
remembers stay there: see 'lamina prune'.`,
		Args:              cli.MinArgs(1),
		ValidArgsFunction: completeImages(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRmi(cmd.Context(), e, args, force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove an image with all its names; ignore missing ones")
	return cmd
}

func runRmi(ctx context.Context, e *cli.Env, refs []string, force bool) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	c, err := openCatalog(store)
	if err != nil {
		return err
	}
	var errs []error
	var gone []ocispec.Descriptor
	for _, ref := range refs {
		root, err := c.remove(ctx, e, ref, force)
		if force && errors.Is(err, fs.ErrNotExist) {
			cli.Report(ctx, e.Stderr, err)
			continue
		}
		errs = append(errs, err)
		if err == nil && root != nil {
			gone = append(gone, *root)
		}
	}
	if len(gone) > 0 {
		_, err := collect.Images(ctx, store, gone)
		if errors.Is(err, cache.ErrInUse) {
			e.Logger().Info("space is not freed while another lamina uses the store; 'lamina prune' does it later")
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// remove takes away the name or the image that ref stands for, and says so. It
// returns the image's root if it is gone.
func (c *catalog) remove(ctx context.Context, e *cli.Env, ref string, force bool) (*ocispec.Descriptor, error) {
	i, name, err := c.locate(ctx, ref)
	if err != nil {
		return nil, err
	}
	switch {
	case name != nil && len(i.Names) > 1:
		if err := c.store.Untag(ctx, name.String()); err != nil {
			return nil, err
		}
		return nil, e.Say("Untagged: %s\n", name.Familiar())
	case name == nil && len(i.Names) > 1 && !force:
		return nil, cli.WithHint(fmt.Errorf("image %s has several names", ref), "give the one that is to be removed, or --force for all")
	}
	id := i.Root.Digest // of an image that cannot be read
	if err := c.read(ctx, &i, ocispec.Platform{}); err == nil {
		id = i.ID()
	}
	if err := c.store.Forget(ctx, i.Root.Digest); err != nil {
		return nil, err
	}
	for _, n := range i.Names {
		if err := e.Say("Untagged: %s\n", n.Familiar()); err != nil {
			return nil, err
		}
	}
	return &i.Root, e.Say("Deleted: %s\n", id)
}
