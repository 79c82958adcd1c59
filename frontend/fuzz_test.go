package frontend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"lamina/solver"
)

// anything resolves every name to an image with triggers, which come from the
// fuzzed text as well.
type anything struct{ onbuild []string }

func (a anything) Resolve(_ context.Context, ref string, p ocispec.Platform) (Base, error) {
	base := Base{Ref: ref, Digest: imageDigest(ref, p)}
	base.Config.Config.OnBuild = a.onbuild
	return base, nil
}

// FuzzLower holds that Parse and Lower never panic, that they return a result or
// a list of errors, and that every position is in the file.
func FuzzLower(f *testing.F) {
	for _, src := range dockerfiles(f) {
		f.Add(src, "RUN make", "A", "b")
	}
	f.Add([]byte("FROM a\nCOPY --from=0 . ."), "# x\n# check=skip=all\nRUN x", "SOURCE_DATE_EPOCH", "1")
	f.Fuzz(func(t *testing.T, src []byte, trigger, key, value string) {
		file, err := Parse("f", src)
		if err != nil {
			checkErrors(t, src, err)
			return
		}
		build, err := Lower(context.Background(), file, anything{[]string{trigger}}, Options{
			BuildArgs: map[string]string{key: value},
		})
		if err != nil {
			checkErrors(t, src, err)
			return
		}
		for _, n := range build.Graph.Nodes {
			checkPos(t, src, n.Pos)
			if _, err := json.Marshal(n.Op); err != nil {
				t.Errorf("op cannot be encoded: %v", err)
			}
		}
		for _, target := range build.Targets {
			if int(target.Root) >= len(build.Graph.Nodes) {
				t.Errorf("root %d is not in the graph", target.Root)
			}
			for _, h := range target.History {
				if int(h.Node) >= len(build.Graph.Nodes) {
					t.Errorf("history refers to node %d, which is not in the graph", h.Node)
				}
			}
		}
		for _, w := range build.Warnings {
			checkPos(t, src, w.Pos)
		}
	})
}

// FuzzCheck holds that the checks, the outline and the list of targets never panic,
// that what they say is in the file, and that they agree on whether it is right.
func FuzzCheck(f *testing.F) {
	for _, src := range dockerfiles(f) {
		f.Add(src, "a", "skip=all")
	}
	f.Fuzz(func(t *testing.T, src []byte, target, option string) {
		opt := Options{
			Targets:   []string{target},
			BuildArgs: map[string]string{"BUILDKIT_DOCKERFILE_CHECK": option},
			Ignored:   func(source string) bool { return len(source)%2 == 0 },
		}
		if target == "" {
			opt.Targets = nil
		}
		report, err := Check(context.Background(), "f", src, anything{}, opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range report.Warnings {
			checkPos(t, src, w.Pos)
			if w.Rule == "" || w.Text == "" || w.Description == "" {
				t.Errorf("incomplete: %+v", w)
			}
		}
		if report.Error != nil {
			checkErrors(t, src, ErrorList{report.Error})
		}
		list, err := Targets("f", src)
		if err != nil {
			checkErrors(t, src, err)
			return
		}
		for _, info := range list {
			checkPos(t, src, info.Pos)
		}
		file, err := Parse("f", src)
		if err != nil {
			t.Fatalf("targets without a file: %v", err)
		}
		o, err := Describe(context.Background(), file, anything{}, opt)
		if err != nil {
			checkErrors(t, src, err)
			return
		}
		for _, a := range o.Args {
			checkPos(t, src, a.Pos)
		}
	})
}

// dockerfiles are the Dockerfiles of all golden files.
func dockerfiles(f *testing.F) [][]byte {
	var all [][]byte
	for _, dir := range []string{"lower", "lower/errors", "lint", "outline", "errors", "reference"} {
		names, err := filepath.Glob("../testdata/" + dir + "/*.txtar")
		if err != nil || len(names) == 0 {
			f.Fatalf("no Dockerfiles in %s: %v", dir, err)
		}
		for _, name := range names {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				f.Fatal(err)
			}
			for _, file := range archive.Files {
				switch file.Name {
				case "Dockerfile":
					all = append(all, file.Data)
				case "Dockerfile.quoted":
					if text, err := strconv.Unquote(strings.TrimSpace(string(file.Data))); err == nil {
						all = append(all, []byte(text))
					}
				}
			}
		}
	}
	return all
}

func checkErrors(t *testing.T, src []byte, err error) {
	var list ErrorList
	if !errors.As(err, &list) || len(list) == 0 {
		t.Fatalf("error %v is no list", err)
	}
	for _, e := range list {
		checkPos(t, src, e.Pos)
		if e.Text == "" {
			t.Error("an error without a text")
		}
	}
	if Render(err, src) == "" {
		t.Error("nothing rendered")
	}
}

func checkPos(t *testing.T, src []byte, pos solver.Pos) {
	if lines := bytes.Count(src, []byte("\n")) + 1; pos.First < 0 || pos.Last < pos.First || pos.Last > lines {
		t.Errorf("position %+v is not in a file of %d lines", pos, lines)
	}
}
