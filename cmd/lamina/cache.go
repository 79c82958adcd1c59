package main

import (
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cachecmd"
	"lamina/cmd/lamina/internal/cli"
)

// newCache returns "lamina cache", for what builds keep for later builds.
func newCache(e *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cache COMMAND",
		Short:   "Manage what builds keep for later builds",
		GroupID: cli.GroupManagement,
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	mounts := cachecmd.New(e)
	mounts.Args = knownCommand
	cmd.AddCommand(mounts)
	return cmd
}
