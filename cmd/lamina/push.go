package main

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
)

type pushOptions struct {
	allTags, quiet bool
	progress       string
}

func newPush(e *cli.Env) *cobra.Command {
	var opts pushOptions
	cmd := &cobra.Command{
		Use:               "push [OPTIONS] NAME[:TAG]",
		Short:             "Upload an image to a registry",
		GroupID:           cli.GroupCommon,
		Args:              cli.ExactArgs(1),
		ValidArgsFunction: completeImages(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPush(cmd.Context(), e, args[0], opts)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.allTags, "all-tags", "a", false, "Push all tags of a repository")
	f.Var((*cli.ProgressFlag)(&opts.progress), "progress", progressUsage)
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "Print nothing but the image's name")
	return cmd
}

// pushed is an image under one of its names.
type pushed struct {
	name registry.Name
	root ocispec.Descriptor
}

func runPush(ctx context.Context, e *cli.Env, ref string, opts pushOptions) (err error) {
	display, err := cli.NewSteps(e, opts.progress, opts.quiet, "Pushing")
	if err != nil {
		return err
	}
	defer display.Close()
	eng, err := e.OpenEngine(ctx, display)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.CloseEngine(ctx, eng)) }()
	images, err := toPush(ctx, eng, ref, opts.allTags)
	if err != nil {
		return err
	}
	for _, p := range images {
		step := display.Transfers("pushing " + p.name.Familiar())
		err := eng.Push(ctx, p.name, p.root)
		step.End(err)
		if err != nil {
			return err
		}
	}
	display.Close()
	for _, p := range images {
		text := fmt.Sprintf("%s: digest: %s size: %d", p.name.Tag, p.root.Digest, p.root.Size)
		if opts.quiet {
			text = p.name.String()
		}
		if err := e.Say("%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// toPush returns what ref names: one image, or all tags of a repository.
func toPush(ctx context.Context, eng *engine.Engine, ref string, allTags bool) ([]pushed, error) {
	name, err := registry.ParseName(ref)
	if err != nil {
		return nil, err
	}
	if name.Digest != "" {
		return nil, errors.New("an image is pushed by a tag, not by a digest")
	}
	c := &catalog{eng.Store, eng.Pool}
	if !allTags {
		i, have, err := c.locate(ctx, ref)
		if err == nil && have == nil {
			err = cli.WithHint(fmt.Errorf("%s is an ID, and says nothing of where to push", ref), "give the image a name with 'lamina tag'")
		}
		return []pushed{{name, i.Root}}, err
	}
	roots, err := c.roots(ctx)
	if err != nil {
		return nil, err
	}
	var all []pushed
	for _, i := range roots {
		for _, n := range i.Names {
			if n.Origin() == name.Origin() && n.Tag != "" {
				all = append(all, pushed{n, i.Root})
			}
		}
	}
	if len(all) == 0 {
		return nil, &noImageError{ref: name.FamiliarRepository()}
	}
	return all, nil
}
