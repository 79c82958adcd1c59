package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lamina/cmd/lamina/internal/cli"
)

// newHelp is the command that prints what --help of another prints.
func newHelp(e *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(help *cobra.Command, args []string) error {
			cmd, rest, err := help.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return knownCommand(cmd, rest)
			}
			var text strings.Builder
			writeHelp(&text, cmd)
			return e.Say("%s", text.String())
		},
		ValidArgsFunction: func(help *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if cmd, _, err := help.Root().Find(args); err == nil {
				for _, c := range cmd.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, c.Name())
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// writeHelp writes what --help prints.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", cli.UseLine(cmd), strings.TrimSpace(text))
	writeDetails(w, cmd)
}

// writeUsage writes help without the description.
func writeUsage(w io.Writer, cmd *cobra.Command) error {
	fmt.Fprintf(w, "Usage:  %s\n", cli.UseLine(cmd))
	writeDetails(w, cmd)
	return nil
}

func writeDetails(w io.Writer, cmd *cobra.Command) {
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if names := aliases(cmd); len(names) > 1 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", strings.Join(names, ", "))
	}
	for _, g := range cmd.Groups() {
		writeCommands(w, cmd, g.ID, g.Title)
	}
	title := "Commands:"
	writeCommands(w, cmd, "", title)
	local, global := cmd.LocalFlags(), cmd.InheritedFlags()
	if !cmd.HasParent() {
		local, global = cmd.LocalNonPersistentFlags(), cmd.PersistentFlags()
	}
	writeFlags(w, "Options:", local)
	writeFlags(w, "Global Options:", global)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", cmd.CommandPath())
	}
}

// aliases are all full names of cmd, its own first.
func aliases(cmd *cobra.Command) []string {
	names := []string{cmd.CommandPath()}
	for _, a := range cmd.Aliases {
		names = append(names, cmd.Parent().CommandPath()+" "+a)
	}
	return names
}

func writeCommands(w io.Writer, cmd *cobra.Command, group, title string) {
	var list []*cobra.Command
	width := 11
	for _, c := range cmd.Commands() {
		if (c.IsAvailableCommand() || c.Name() == "help") && c.GroupID == group {
			list = append(list, c)
			width = max(width, len(c.Name()))
		}
	}
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, c := range list {
		fmt.Fprintf(w, "  %-*s %s\n", width, c.Name(), c.Short)
	}
}

func writeFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(w, "\n%s\n%s", title, flags.FlagUsages())
}
