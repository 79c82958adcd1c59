package main

import (
	"strings"

	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
)

// newImage returns "lamina image", under which the commands for images have
// their second names.
func newImage(e *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image COMMAND",
		Short:   "Manage images",
		GroupID: cli.GroupManagement,
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		called(newHistory(e), "history"),
		called(newInspect(e), "inspect"),
		called(newImages(e), "ls", "list"),
		called(newPull(e), "pull"),
		called(newPush(e), "push"),
		called(newRmi(e), "rm", "remove"),
		called(newTag(e), "tag"),
	)
	return cmd
}

// called renames a command, for its place in a group.
func called(cmd *cobra.Command, name string, aliases ...string) *cobra.Command {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use = name + " " + rest
	cmd.Aliases = aliases
	cmd.GroupID = ""
	return cmd
}
