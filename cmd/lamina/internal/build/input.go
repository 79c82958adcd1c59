package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/cli"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// input is what a build reads: a Dockerfile and a context.
type input struct {
	name   string // of the Dockerfile, for people
	source []byte
	tree   snapshot.Tree            // the context, without what the ignore file hides
	named  map[string]snapshot.Tree // directories that are named contexts
	hiding map[string]hiding        // by the names of their operations: what ignore files hide
	// remote tells that the context is no directory of this machine: --file is
	// relative to it, and no ignore file counts.
	remote bool
	// dated tells that the context is from some time: modified or, if that is zero
	// or 1970, its youngest file's.
	dated    bool
	modified time.Time
	closers  []func() error
}

func (in *input) Close() {
	for _, c := range in.closers {
		c()
	}
}

// maxDockerfile is more than any Dockerfile, in bytes.
const maxDockerfile = 16 << 20

// openInput finds the Dockerfile and the context that the command line names.
func (b *build) openInput(ctx context.Context, arg string) (*input, error) {
	in := &input{hiding: map[string]hiding{}}
	err := b.openContext(ctx, in, arg)
	if err == nil && in.source == nil {
		err = b.readDockerfile(ctx, in, arg)
	}
	if err == nil && !in.remote {
		err = in.ignore(b)
	}
	if err == nil {
		err = b.openLocals(in)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// readDockerfile reads the Dockerfile: what --file says, or a default name in
// the context.
func (b *build) readDockerfile(ctx context.Context, in *input, arg string) (err error) {
	file := b.opt.file
	switch {
	case file == "-":
		in.name = "-"
		if in.source, err = readAll(b.Stdin); err != nil {
			return fmt.Errorf("read the Dockerfile from standard input: %w", err)
		}
		return nil
	case isHTTP(file):
		return b.readURL(ctx, in)
	case file == "":
		return in.find(arg, "Dockerfile", "dockerfile", "Containerfile")
	case arg == "-" || in.remote && !filepath.IsAbs(file):
		return in.find(arg, eitherCase(filepath.ToSlash(file))...)
	}
	return b.readFile(in, arg)
}

// eitherCase are the names that a Dockerfile may have if file is what it is called.
func eitherCase(file string) []string {
	if dir, base := path.Split(file); base == "Dockerfile" {
		return []string{file, dir + "dockerfile"}
	}
	return []string{file}
}

// find reads the first of names that the context has.
func (in *input) find(arg string, names ...string) (err error) {
	for _, name := range names {
		in.source, err = readFrom(in.tree, strings.TrimPrefix(path.Join("/", name), "/"))
		if err == nil {
			in.name = name
			if !in.remote && arg != "." {
				in.name = filepath.Join(arg, name)
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if e, lerr := in.tree.Lstat(name); lerr == nil && e.Kind == snapshot.Symlink {
			return cli.WithHint(fmt.Errorf("%s in the context %s is a link to %s, which the context does not have", name, shown(arg), e.Link), "name the file with --file")
		}
	}
	return cli.WithHint(fmt.Errorf("there is no %s in the context %s", names[0], shown(arg)), "name it with --file")
}

// readFile reads the file that --file names, relative to the current directory.
func (b *build) readFile(in *input, arg string) (err error) {
	var f *os.File
	for i, name := range eitherCase(b.opt.file) {
		var other error
		if f, other = os.Open(name); other == nil {
			in.name, err = name, nil
			break
		}
		if i == 0 {
			err = other
		}
	}
	if err != nil {
		missing := errors.Is(err, fs.ErrNotExist)
		err = fmt.Errorf("read Dockerfile: %w", err)
		if _, lerr := in.tree.Lstat(b.opt.file); missing && lerr == nil {
			err = cli.WithHint(err, "--file is relative to the current directory: did you mean %s?", filepath.Join(arg, b.opt.file))
		}
		return err
	}
	defer f.Close()
	if in.source, err = readAll(f); err != nil {
		return fmt.Errorf("read Dockerfile %s: %w", in.name, err)
	}
	return nil
}

// readURL fetches the Dockerfile that --file names.
func (b *build) readURL(ctx context.Context, in *input) error {
	const name = "Dockerfile"
	tree, err := b.fetch(ctx, "load remote Dockerfile "+b.opt.file, solver.HTTP{URL: b.opt.file, Name: name})
	if err != nil {
		return err
	}
	in.name = b.opt.file
	if in.source, err = readFrom(tree, name); err != nil {
		return fmt.Errorf("read Dockerfile %s: %w", b.opt.file, err)
	}
	return nil
}

// hiding is what an ignore file does to a tree.
type hiding struct {
	all   snapshot.Tree // with everything
	rules fileset.Rules
	// file is the ignore file's name for people, and path its path in the tree; empty
	// if there is none, or if it is not in there.
	file, path string
}

// ignore hides what the ignore file says: the one beside the Dockerfile that
// bears its name, or else the context's.
func (in *input) ignore(b *build) error {
	own := in.name + ".dockerignore"
	var r io.ReadCloser
	var err error = fs.ErrNotExist
	if in.name != "-" && !isHTTP(in.name) {
		r, err = os.Open(own)
	}
	var h hiding
	switch {
	case err == nil:
		in.tree, h, err = ignored(in.tree, own, r)
		h.path, _ = inside(b.context, own)
	case errors.Is(err, fs.ErrNotExist):
		in.tree, h, err = ignoring(in.tree, ".containerignore", ".dockerignore")
	default:
		err = fmt.Errorf("read ignore file: %w", err)
	}
	if h.rules != nil {
		b.lowering.Ignored = h.rules.SourceCheck()
	}
	in.hiding[contextName] = h
	return err
}

// ignoring is t without what its ignore file hides, the first of names that it has.
func ignoring(t snapshot.Tree, names ...string) (snapshot.Tree, hiding, error) {
	for _, name := range names {
		r, err := openIn(t, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, hiding{}, fmt.Errorf("read ignore file: %w", err)
		}
		shown, h, err := ignored(t, name, r)
		h.path = name
		return shown, h, err
	}
	return t, hiding{all: t}, nil
}

// ignored is t without what r, an ignore file called name, hides. It closes r.
func ignored(t snapshot.Tree, name string, r io.ReadCloser) (snapshot.Tree, hiding, error) {
	defer r.Close()
	h := hiding{all: t, file: name}
	var err error
	if h.rules, err = fileset.ReadIgnore(name, r); err != nil {
		return nil, h, err
	}
	t, err = fileset.Ignore(t, h.rules)
	return t, h, err
}

// openIn opens a file of t, through links in t.
func openIn(t snapshot.Tree, name string) (io.ReadCloser, error) {
	name, err := snapshot.Resolve(t, name, true)
	if err != nil {
		return nil, err
	}
	if _, err := t.Lstat(name); err != nil {
		return nil, err
	}
	return t.Open(name)
}

func readFrom(t snapshot.Tree, name string) ([]byte, error) {
	r, err := openIn(t, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r)
}

// readAll reads a file that ought to be small.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err == nil && len(data) > maxDockerfile {
		err = fmt.Errorf("it is longer than %d MiB", maxDockerfile>>20)
	}
	if data == nil {
		data = []byte{}
	}
	return data, err
}
