package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
)

func newTag(e *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short:             "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
		Args:              cli.ExactArgs(2),
		ValidArgsFunction: completeImages(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTag(cmd.Context(), e, args[0], args[1])
		},
	}
}

func runTag(ctx context.Context, e *cli.Env, source, target string) (err error) {
	name, err := registry.ParseName(target)
	if err != nil {
		return err
	}
	if name.Digest != "" {
		return errors.New("a tag cannot have a digest: what it refers to decides about that")
	}
	engine, err := e.OpenEngine(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.CloseEngine(ctx, engine)) }()
	c := &catalog{engine.Store, engine.Pool}
	i, err := c.find(ctx, source)
	if err != nil {
		return err
	}
	return engine.Store.Tag(ctx, name.String(), i.Root)
}
