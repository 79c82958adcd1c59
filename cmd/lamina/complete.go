package main

import (
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
)

// completeImages completes the names of the store's images, for as many
// arguments as most says; any number if it is negative.
func completeImages(e *cli.Env, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := imageNames(e, cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func imageNames(e *cli.Env, cmd *cobra.Command) ([]string, error) {
	if err := e.FromEnvironment(cmd.Root().PersistentFlags()); err != nil {
		return nil, err
	}
	store, err := e.OpenStore()
	if err != nil {
		return nil, err
	}
	defer store.Close()
	c, err := openCatalog(store)
	if err != nil {
		return nil, err
	}
	roots, err := c.roots(cmd.Context())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range roots {
		for _, n := range i.Names {
			names = append(names, n.Familiar())
		}
	}
	return names, nil
}
