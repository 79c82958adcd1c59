package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
)

// version is set by the linker: -X main.version=1.2.3.
var version = "dev"

// versionLine is what --version prints.
func versionLine() string {
	return fmt.Sprintf("lamina version %s, build %s", version, commit())
}

// commit is the revision that this binary was built from, or "unknown".
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 7)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return revision + dirty
}

// versionInfo has the fields that --format can name.
type versionInfo struct {
	Version   string
	GitCommit string
	GoVersion string
	Os        string
	Arch      string
}

func newVersion(e *cli.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the lamina version information",
		Args:  cli.MaxArgs(0),
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if format != "" {
				return cli.Rows[versionInfo]{Items: []versionInfo{v}}.Write(e.Stdout, format)
			}
			_, err := fmt.Fprintf(e.Stdout, "Version:     %s\nGit commit:  %s\nGo version:  %s\nOS/Arch:     %s/%s\n",
				v.Version, v.GitCommit, v.GoVersion, v.Os, v.Arch)
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", cli.FormatUsage)
	return cmd
}
