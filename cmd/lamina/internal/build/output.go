package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter"
)

// output is one --output: what becomes of the result.
type output struct {
	kind string // image, oci, docker, tar, local or cacheonly
	dest string // a path; "-" is standard output
	dir  bool   // oci and docker: a directory instead of an archive

	// Of images.
	name        string // beside --tag; empty if there is none
	names       []imageName
	push        bool
	byDigest    bool           // pushed without a tag
	unstored    bool           // not made part of the store
	insecure    bool           // the registry may speak plain HTTP, or show any certificate
	prefix      *registry.Name // of a name by digest, which the image gets too
	prefixAlone bool           // … or only if it has no other
	rewrite     bool           // later times in layers become the epoch
	pack        exporter.PackOptions
	annotations []annotation

	// Of files.
	split  *bool // whether each platform has a directory of its own
	remove bool  // what the result does not have is removed from dest

	epoch *time.Time // instead of the build's
	notes []string   // about options that have no effect
}

// isImage tells whether the output is an image, wherever it goes.
func (out *output) isImage() bool { return cli.OneOf(out.kind, "image", "oci", "docker") }

// parseOutputs parses --output, --push, --load and what else is about the result.
// Without any of these the result is an image in the store.
func parseOutputs(o buildOptions, stdoutIsTerminal bool) ([]output, error) {
	var all []output
	for _, s := range o.outputs {
		out, err := parseOutput(s)
		if err == nil && out.dest == "-" && stdoutIsTerminal {
			err = errors.New("refusing to write an archive to a terminal; redirect it")
		}
		if err == nil {
			err = out.checkDest(o.allow)
		}
		if err != nil {
			return nil, fmt.Errorf("--output=%s: %w", s, err)
		}
		all = append(all, out)
	}
	if err := checkDests(all, o.quiet); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		all = []output{{kind: "image"}}
	}
	if o.push {
		all = withPush(all)
	}
	if o.load && !slices.ContainsFunc(all, func(out output) bool { return out.kind == "image" && !out.unstored }) {
		all = append(all, output{kind: "image"})
	}
	shared, err := parseAnnotations(o.annotations)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := all[i].complete(o, shared); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// withPush is what --push makes of the outputs: images are pushed, and if there is
// none it is one more output.
func withPush(all []output) []output {
	found := false
	for i := range all {
		if all[i].kind == "image" {
			all[i].push, found = true, true
		}
	}
	if !found {
		all = append(all, output{kind: "image", push: true, unstored: true})
	}
	return all
}

// complete adds to an output what the other flags say of all.
func (out *output) complete(o buildOptions, shared []annotation) (err error) {
	if !out.isImage() {
		return nil
	}
	if out.names, err = imageNames(o.tags, out.name, o.targets); err != nil {
		return err
	}
	if out.push && len(out.names) == 0 && out.prefix == nil {
		return cli.WithHint(errors.New("there is no name to push to"), "name the image with --tag")
	}
	for _, n := range out.names {
		if out.byDigest && n.tagged {
			return cli.WithHint(fmt.Errorf("push-by-digest=true: %s has a tag, which is not pushed", n.given), "give the name without it")
		}
	}
	out.annotations = append(slices.Clone(shared), out.annotations...)
	out.rewrite = out.rewrite || o.rewriteTimestamp
	return nil
}

// localDelete is what --allow has to say before files of a directory elsewhere are
// removed.
const localDelete = "buildx.local.delete"

// checkDest finds out early what cannot be written to.
func (out *output) checkDest(allowed []string) error {
	if out.dest == "" || out.dest == "-" {
		return nil
	}
	directory := out.kind == "local" || out.dir
	st, err := os.Stat(out.dest)
	switch {
	case err != nil: // nothing is there, or writing it will say what is wrong
	case directory && !st.IsDir():
		return fmt.Errorf("%s is a file, not a directory", out.dest)
	case !directory && st.IsDir():
		return fmt.Errorf("%s is a directory, not a file", out.dest)
	}
	if !out.remove || slices.Contains(allowed, localDelete) {
		return nil
	}
	inside, err := below(out.dest)
	if err == nil && !inside {
		err = cli.WithHint(fmt.Errorf("mode=delete would remove files outside of the current directory, from %s", out.dest),
			"add --allow=%s if that is meant", localDelete)
	}
	return err
}

// below tells whether dir is, or is going to be, beneath the current directory, with
// links followed.
func below(dir string) (bool, error) {
	here, err := filepath.EvalSymlinks(".")
	if err == nil {
		here, err = filepath.Abs(here)
	}
	if err != nil {
		return false, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	// What does not exist yet is where its nearest parent is.
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			dir = filepath.Join(real, rest)
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		rest, dir = filepath.Join(filepath.Base(dir), rest), filepath.Dir(dir)
	}
	rel, err := filepath.Rel(here, dir)
	return err == nil && rel != "." && filepath.IsLocal(rel), err
}

// checkDests refuses outputs that would write over each other.
func checkDests(all []output, quiet bool) error {
	seen := map[string]bool{}
	for _, out := range all {
		switch {
		case out.dest == "":
			continue
		case out.dest == "-" && quiet:
			return errors.New("--quiet and an --output to standard output exclude each other")
		case out.dest == "-" && seen["-"]:
			return errors.New("only one --output can go to standard output")
		case seen[filepath.Clean(out.dest)]:
			return fmt.Errorf("two --output go to %s", out.dest)
		}
		seen[filepath.Clean(out.dest)] = true
	}
	return nil
}
