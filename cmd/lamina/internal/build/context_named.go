package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/frontend"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

const imagePrefix = "docker-image://"

// parseContexts parses the values of --build-context, NAME=VALUE. Of several for
// one name the last one counts. What is a directory is in locals, by the name that
// its operation has.
func parseContexts(flags []string) (contexts map[string]frontend.Context, locals map[string]string, err error) {
	contexts, locals = map[string]frontend.Context{}, map[string]string{}
	for _, s := range flags {
		name, value, ok := strings.Cut(s, "=")
		if !ok || value == "" {
			return nil, nil, fmt.Errorf("--build-context=%s: want NAME=VALUE", s)
		}
		key, err := frontend.ContextName(name)
		if err != nil {
			return nil, nil, fmt.Errorf("--build-context=%s: %w", shown(s), err)
		}
		c, dir, err := parseContext(value)
		if err != nil {
			return nil, nil, fmt.Errorf("--build-context %s: %w", name, err)
		}
		if dir != "" {
			local := key
			if cli.OneOf(key, contextName, "dockerfile") { // as docker calls them, for source policies
				local = "_" + key
			}
			c.Op, locals[local] = solver.Local{Name: local}, dir
		}
		contexts[key] = c
	}
	return contexts, locals, nil
}

// parseContext says what value is: a directory, if it returns one, or else a context.
func parseContext(value string) (c frontend.Context, dir string, err error) {
	if image, ok := strings.CutPrefix(value, imagePrefix); ok {
		if image != "scratch" {
			_, err = registry.ParseName(image)
		}
		return frontend.Context{Image: image}, "", err
	}
	if engine.IsLayout(value) {
		return frontend.Context{Image: value}, "", engine.CheckLayout(value)
	}
	st, err := os.Stat(value)
	if err == nil && st.IsDir() {
		return c, value, nil
	}
	if ref, ok, gerr := frontend.ParseGit(value); ok {
		ref.KeepGitDir = ref.KeepDir != nil && *ref.KeepDir
		return frontend.Context{Op: ref.Git}, "", gerr
	}
	if isHTTP(value) {
		return frontend.Context{Op: solver.HTTP{URL: value, Name: "context"}}, "", nil
	}
	if scheme, _, ok := strings.Cut(value, "://"); ok {
		return c, "", fmt.Errorf("%s:// is no source of files: want a directory, a URL, %sIMAGE or %sDIRECTORY", scheme, imagePrefix, engine.LayoutPrefix)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("there is no directory %s", value)
	case err == nil:
		err = fmt.Errorf("%s is not a directory", value)
	}
	return c, "", err
}

// openLocals opens the directories of named contexts, each with its own ignore file.
func (b *build) openLocals(in *input) error {
	in.named = map[string]snapshot.Tree{}
	for name, dir := range b.locals {
		host, err := fileset.Host(dir)
		if err != nil {
			return fmt.Errorf("open context: %w", err)
		}
		in.closers = append(in.closers, host.Close)
		if in.named[name], in.hiding[name], err = ignoring(host, ".dockerignore"); err != nil {
			return err
		}
	}
	return nil
}
