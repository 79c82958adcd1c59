package main

import (
	"github.com/spf13/cobra"
)

// completeImages completes the names of the store's images, for as many
// arguments as most says; any number if it is negative.
func (e *env) completeImages(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := e.imageNames(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func (e *env) imageNames(cmd *cobra.Command) ([]string, error) {
	if err := e.fromEnvironment(cmd.Root().PersistentFlags()); err != nil {
		return nil, err
	}
	store, err := e.openStore()
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
