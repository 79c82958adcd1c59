package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layertar"
)

// input is what a build reads: a Dockerfile and a context.
type input struct {
	name    string // of the Dockerfile, for people
	source  []byte
	tree    snapshot.Tree // the context, without what the ignore file hides
	closers []func() error
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
	in := &input{}
	var err error
	switch {
	case arg == "-" && b.opt.file == "-":
		err = errors.New("the context and the Dockerfile cannot both come from the standard input")
	case arg == "-":
		err = b.fromStdin(ctx, in)
	case isURL(arg):
		err = withHint(fmt.Errorf("a context from %s is not supported yet", arg), "fetch it, and build the directory")
	default:
		err = b.fromDirectory(in, arg)
	}
	if err == nil && in.source == nil {
		err = b.readDockerfile(in, arg)
	}
	if err == nil {
		err = in.ignore(b, arg)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

func isURL(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "git@", "ssh://", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func (b *build) fromDirectory(in *input, dir string) error {
	host, err := fileset.Host(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s to build", dir)
	}
	if err != nil {
		return fmt.Errorf("open context: %w", err)
	}
	in.tree = host
	in.closers = append(in.closers, host.Close)
	return nil
}

// fromStdin reads a tar archive, which is the context, or else a Dockerfile,
// whose context is empty.
func (b *build) fromStdin(ctx context.Context, in *input) error {
	r := bufio.NewReaderSize(b.stdin, 1<<10)
	if isArchive(r) {
		return b.fromArchive(ctx, in, r)
	}
	source, err := readAll(r)
	if err != nil {
		return fmt.Errorf("read the Dockerfile from standard input: %w", err)
	}
	in.name, in.source, in.tree = "-", source, fileset.Memory()
	return nil
}

// isArchive tells whether r begins like a tar archive or a compressed file.
func isArchive(r *bufio.Reader) bool {
	head, _ := r.Peek(512) // what there is will do
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	const ustar = 257 // POSIX: the magic's place in a header
	return len(head) > ustar+5 && string(head[ustar:ustar+5]) == "ustar"
}

// fromArchive unpacks a context into a layer that is never published.
func (b *build) fromArchive(ctx context.Context, in *input, r io.Reader) error {
	tar, err := layertar.Decompress(r)
	if err != nil {
		return fmt.Errorf("read the context from standard input: %w", err)
	}
	defer tar.Close()
	draft, err := b.engine.Pool.Draft()
	if err != nil {
		return err
	}
	in.closers = append(in.closers, draft.Close)
	if err := layertar.Apply(ctx, draft, tar); err != nil {
		return fmt.Errorf("read the context from standard input: %w", err)
	}
	in.tree = draft
	return nil
}

// defaultNames are those of a Dockerfile that --file does not name.
var defaultNames = [...]string{"Dockerfile", "dockerfile", "Containerfile"}

// readDockerfile reads the Dockerfile: what --file says, or a default name in
// the context.
func (b *build) readDockerfile(in *input, contextArg string) (err error) {
	if b.opt.file == "-" {
		in.name = "-"
		if in.source, err = readAll(b.stdin); err != nil {
			return fmt.Errorf("read the Dockerfile from standard input: %w", err)
		}
		return nil
	}
	if b.opt.file != "" && contextArg != "-" {
		in.name = b.opt.file
		f, err := os.Open(b.opt.file)
		if err != nil {
			missing := errors.Is(err, fs.ErrNotExist)
			err = fmt.Errorf("read Dockerfile: %w", err)
			if _, lerr := in.tree.Lstat(b.opt.file); missing && lerr == nil {
				err = withHint(err, "--file is relative to the current directory: did you mean %s?", filepath.Join(contextArg, b.opt.file))
			}
			return err
		}
		defer f.Close()
		if in.source, err = readAll(f); err != nil {
			return fmt.Errorf("read Dockerfile %s: %w", b.opt.file, err)
		}
		return nil
	}
	names := defaultNames[:]
	if b.opt.file != "" {
		names = []string{b.opt.file}
	}
	for _, name := range names {
		in.source, err = readFrom(in.tree, name)
		if err == nil {
			in.name = name
			if contextArg != "-" && contextArg != "." {
				in.name = filepath.Join(contextArg, name)
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if e, lerr := in.tree.Lstat(name); lerr == nil && e.Kind == snapshot.Symlink {
			return withHint(fmt.Errorf("%s in the context %s is a link to %s, which the context does not have", name, contextArg, e.Link), "name the file with --file")
		}
	}
	return withHint(fmt.Errorf("there is no %s in the context %s", names[0], contextArg), "name it with --file")
}

// ignore hides what the ignore file says: the one beside the Dockerfile that
// bears its name, or else the context's.
func (in *input) ignore(b *build, contextArg string) error {
	var r io.ReadCloser
	var err error = fs.ErrNotExist
	own := in.name + ".dockerignore"
	switch {
	case in.name == "-":
	case contextArg == "-":
		r, err = in.tree.Open(own)
	default:
		r, err = os.Open(own)
	}
	for _, name := range []string{".containerignore", ".dockerignore"} {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		own = name
		r, err = openIn(in.tree, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ignore file: %w", err)
	}
	defer r.Close()
	rules, err := fileset.ReadIgnore(own, r)
	if err != nil {
		return err
	}
	b.lowering.Ignored = rules.SourceCheck()
	in.tree, err = fileset.Ignore(in.tree, rules)
	return err
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
