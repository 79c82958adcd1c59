package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lamina/cmd/lamina/internal/cli"
)

var updateErrors = flag.Bool("update-errors", false, "rewrite the golden files in testdata/errors")

// TestErrorCases compares what wrong Dockerfiles and wrong command lines are told,
// word by word, with testdata/errors/*.txtar:
//
//	-- Dockerfile --     and other files of the context; NAME.quoted is a Go string
//	-- args --           the command line, one argument a line; without it "build -q ."
//	-- env --            NAME=VALUE lines
//	-- want --           the exit code, and the standard error; written by -update-errors
//
// Nothing of it needs a network, a container or root.
func TestErrorCases(t *testing.T) {
	names, err := filepath.Glob("../../testdata/errors/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	store := t.TempDir()
	for _, name := range names {
		name, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			got := runErrorCase(t, archive, store)
			if *updateErrors {
				rewriteErrorCase(t, name, archive, got)
				return
			}
			want := ""
			for _, f := range archive.Files {
				if f.Name == "want" {
					want = string(f.Data)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// runErrorCase writes the files of a case here and returns the exit code of its
// command line and what that writes to the standard error.
func runErrorCase(t *testing.T, archive *txtar.Archive, store string) string {
	args := []string{"build", "-q", "."}
	vars := environment{"LAMINA_ROOT": store}
	for _, f := range archive.Files {
		switch f.Name {
		case "want":
		case "args":
			args = strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n")
		case "env":
			for line := range strings.Lines(string(f.Data)) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				vars[name] = value
			}
		default:
			writeCaseFile(t, f)
		}
	}
	var stdout, stderr bytes.Buffer
	e := &cli.Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, LookupEnv: vars.lookup}
	code := execute(context.Background(), e, args)
	return "exit " + strconv.Itoa(code) + "\n" + stderr.String()
}

func writeCaseFile(t *testing.T, f txtar.File) {
	name, quoted := strings.CutSuffix(f.Name, ".quoted")
	data := f.Data
	if quoted {
		text, err := strconv.Unquote(strings.TrimSpace(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		data = []byte(text)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func rewriteErrorCase(t *testing.T, name string, archive *txtar.Archive, want string) {
	files := archive.Files[:0:0]
	for _, f := range archive.Files {
		if f.Name != "want" {
			files = append(files, f)
		}
	}
	archive.Files = append(files, txtar.File{Name: "want", Data: []byte(want)})
	if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
