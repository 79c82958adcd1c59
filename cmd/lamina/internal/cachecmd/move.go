package cachecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"lamina/cache/mounts"
	"lamina/cmd/lamina/internal/cli"
	"lamina/snapshot/layertar"
)

func newExport(e *cli.Env) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] ID [FILE|-]",
		Short: "Write a cache mount as a tar archive",
		Long: `Write a cache mount as a tar archive to a file, or to standard output.

Devices, sockets and pipes are left out. A mount that a build or a container is
using is not exported, since it might be half written.`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := "-"
			if len(args) > 1 {
				file = args[1]
			}
			return runExport(cmd.Context(), e, args[0], file, wait)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "Wait until nobody uses the mount")
	return cmd
}

func runExport(ctx context.Context, e *cli.Env, ref, file string, wait bool) error {
	if file == "-" && e.StdoutIsTerminal() {
		return cli.WithHint(errors.New("an archive is not for a terminal"), "name a file, or redirect the output")
	}
	all, done, err := open(ctx, e, true)
	if err != nil {
		return err
	}
	defer done()
	infos, err := all.List(ctx)
	if err != nil {
		return err
	}
	i, err := find(infos, ref)
	if err != nil {
		return err
	}
	release, err := all.Alone(ctx, i.Name, wait)
	if err != nil {
		return inUse(i, err)
	}
	defer release()
	write := func(w io.Writer) error { return all.Export(ctx, i.Name, w) }
	if file == "-" {
		err = write(e.Stdout)
	} else {
		err = cli.WriteFile(file, write)
	}
	if err != nil {
		return fmt.Errorf("export cache mount %s: %w", printable(i.Spec.ID), err)
	}
	return nil
}

// importOptions say which mount an archive becomes, beside its id.
type importOptions struct {
	mode     string
	uid, gid int
	set      bool // any of them
	wait     bool
}

func newImport(e *cli.Env) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] ID FILE|-",
		Short: "Make a cache mount of a tar archive",
		Long: `Make a cache mount of a tar archive, compressed or not: its whole content is what
the archive has, with its owners, modes and times. If that fails, it is what it was.

With --mode, --uid or --gid it is the mount of RUN --mount=type=cache,mode=,uid=,gid=.`,
		Args: between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			o.set = f.Changed("mode") || f.Changed("uid") || f.Changed("gid")
			return runImport(cmd.Context(), e, o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", "0755", "Mode of the mount's directory")
	f.IntVar(&o.uid, "uid", 0, "User of the mount's directory")
	f.IntVar(&o.gid, "gid", 0, "Group of the mount's directory")
	f.BoolVar(&o.wait, "wait", false, "Wait until nobody uses the mount")
	return cmd
}

func runImport(ctx context.Context, e *cli.Env, o importOptions, ref, file string) error {
	in := io.NopCloser(e.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		in = f
	}
	defer in.Close()
	all, done, err := open(ctx, e, true)
	if err != nil {
		return err
	}
	defer done()
	spec, err := o.spec(ctx, all, ref)
	if err != nil {
		return err
	}
	release, err := all.Alone(ctx, spec.Name(), o.wait)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a new one
	case err != nil:
		return inUse(mounts.Info{Spec: spec}, err)
	default:
		defer release()
	}
	plain, err := layertar.Decompress(in)
	if err == nil {
		defer plain.Close()
		err = all.Import(ctx, spec, plain)
	}
	if err != nil {
		return fmt.Errorf("import cache mount %s: %w", printable(ref), err)
	}
	return nil
}

// spec says which mount is meant: the one that ref calls, or a new one of this id.
func (o importOptions) spec(ctx context.Context, all mounts.Mounts, ref string) (mounts.Spec, error) {
	if ref == "" {
		return mounts.Spec{}, errors.New("a cache mount needs an id")
	}
	if o.set {
		mode, err := strconv.ParseUint(o.mode, 8, 32)
		if err != nil || mode > 0o777 {
			return mounts.Spec{}, fmt.Errorf("--mode=%s: want an octal mode such as 0755", o.mode)
		}
		if o.uid < 0 || o.gid < 0 {
			return mounts.Spec{}, errors.New("--uid and --gid cannot be negative")
		}
		return mounts.Spec{ID: ref, Attrs: &mounts.Attrs{Mode: uint32(mode), UID: o.uid, GID: o.gid}}, nil
	}
	infos, err := all.List(ctx)
	if err != nil || len(mounts.Find(infos, ref)) == 0 {
		return mounts.Spec{ID: ref}, err
	}
	i, err := find(infos, ref)
	if err == nil && i.Copy {
		err = fmt.Errorf("%s is a private copy: import the mount itself, %s", i.Name, printable(i.Spec.ID))
	}
	return i.Spec, err
}

// between wants so many arguments.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cli.MinArgs(least)(cmd, args); err != nil {
			return err
		}
		return cli.MaxArgs(most)(cmd, args)
	}
}
