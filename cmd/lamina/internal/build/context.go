package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lamina/cmd/lamina/internal/cli"
	"lamina/frontend"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
	"lamina/solver/local"
	"lamina/solver/local/gitsource"
)

// openContext opens the context that arg names. If that is a Dockerfile instead,
// it is in's source.
func (b *build) openContext(ctx context.Context, in *input, arg string) error {
	if arg == "-" {
		return b.fromStdin(ctx, in)
	}
	if st, err := os.Stat(arg); err == nil && st.IsDir() {
		return b.fromDirectory(in, arg)
	}
	if ref, ok, err := frontend.ParseGit(arg); err != nil {
		return err
	} else if ok {
		return b.fromGit(ctx, in, ref)
	}
	if isHTTP(arg) {
		return b.fromURL(ctx, in, arg)
	}
	return b.fromDirectory(in, arg)
}

func isHTTP(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// shown is arg, the name of a context, as it may be shown.
func shown(arg string) string { return gitsource.Redact(arg) }

func (b *build) fromDirectory(in *input, dir string) error {
	host, err := fileset.Host(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s to build", dir)
	}
	if errors.Is(err, unix.ENOTDIR) {
		return cli.WithHint(fmt.Errorf("the context %s is not a directory", dir), "name the directory with the build's files, and a Dockerfile with --file")
	}
	if err != nil {
		return fmt.Errorf("open context: %w", err)
	}
	in.tree = b.withoutStore(host, dir)
	in.closers = append(in.closers, host.Close)
	return nil
}

// withoutStore is t, the directory dir, without the store if that is in it, as
// where CI keeps everything beneath a project: it changes while it is read.
func (b *build) withoutStore(t snapshot.Tree, dir string) snapshot.Tree {
	if rel, ok := inside(dir, b.Root); ok {
		return fileset.Without(t, rel)
	}
	return t
}

// inside returns what a tree of the directory dir calls name, if it has that.
func inside(dir, name string) (rel string, ok bool) {
	rel, err := filepath.Rel(realPath(dir), realPath(name))
	return filepath.ToSlash(rel), err == nil && rel != "." && filepath.IsLocal(rel)
}

// realPath is name without links, as far as that can be told.
func realPath(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return name
}

// fromGit makes the files of a commit the context.
func (b *build) fromGit(ctx context.Context, in *input, ref frontend.GitRef) (err error) {
	src := ref.Git
	keep, _ := strconv.ParseBool(b.lowering.BuildArgs["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]) // anything else is no
	src.KeepGitDir = keep || ref.KeepDir != nil && *ref.KeepDir
	// Who wants the same image each time wants the same files.
	src.CommitTime = src.CommitTime || b.lowering.BuildArgs["SOURCE_DATE_EPOCH"] != ""
	in.remote, in.dated = true, src.CommitTime
	in.tree, err = b.fetch(ctx, "load git source "+shown(src.Remote), src)
	return err
}

// fetch gets what op says, which is elsewhere, and shows that it does.
func (b *build) fetch(ctx context.Context, what string, op solver.Op) (tree snapshot.Tree, err error) {
	st := b.display.Begin("[internal] " + what)
	defer func() { st.End(err) }()
	g := &solver.Graph{Nodes: []solver.Node{{Op: op, Name: what}}}
	if err := b.police(g); err != nil {
		return nil, err
	}
	op = g.Nodes[0].Op
	worker := b.engine.Worker(local.Config{Secret: b.secret, SSH: b.ssh})
	found, err := worker.Fetch(ctx, op, fetching{st})
	if err != nil {
		return nil, err
	}
	return b.engine.Tree(ctx, found.Layers)
}

// fetching shows the progress of a step that fetches something.
type fetching struct{ *cli.Step }

func (f fetching) Write(p []byte) (int, error) { return len(p), nil }

// fromStdin reads a tar archive, which is the context, or else a Dockerfile,
// whose context is empty.
func (b *build) fromStdin(ctx context.Context, in *input) error {
	r := bufio.NewReaderSize(b.Stdin, archiveHead)
	if isArchive(r) {
		return b.fromArchive(ctx, in, r, "standard input")
	}
	if b.opt.file != "" {
		return cli.WithHint(errors.New("standard input is a Dockerfile, and --file names another"), "leave out one of them")
	}
	source, err := readAll(r)
	if err != nil {
		return fmt.Errorf("read the Dockerfile from standard input: %w", err)
	}
	in.name, in.source, in.tree = "-", source, fileset.Memory()
	return nil
}

// fromURL fetches a file: an archive, which is the context, or else a Dockerfile,
// whose context has nothing but itself.
func (b *build) fromURL(ctx context.Context, in *input, url string) error {
	const name = "context" // as the reference calls it
	tree, err := b.fetch(ctx, "load remote build context", solver.HTTP{URL: url, Name: name})
	if err != nil {
		return err
	}
	e, err := tree.Lstat(name)
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	f, err := tree.Open(name)
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	defer f.Close()
	in.modified, in.dated = e.ModTime, e.ModTime.Unix() > 0
	r := bufio.NewReaderSize(f, archiveHead)
	in.remote = true
	if isArchive(r) {
		return b.fromArchive(ctx, in, r, url)
	}
	in.tree = tree
	if b.opt.file != "" {
		return nil
	}
	in.name = url
	if in.source, err = readAll(r); err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	return nil
}
