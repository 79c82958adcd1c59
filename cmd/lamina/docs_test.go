package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"lamina/cmd/lamina/internal/build"
	"lamina/cmd/lamina/internal/cli"
)

// TestBuildDocs: docs/build.md has an example for every flag of "lamina build", but
// for those that it says have no effect, and each example is a line of a script in
// testdata, so that it works.
func TestBuildDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/build.md")
	if err != nil {
		t.Fatal(err)
	}
	tested := scriptCommands(t)
	used := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(line, "    ") || !strings.Contains(line, "lamina build") {
			continue
		}
		if example := buildCommand(line); !tested[example] {
			t.Errorf("no script of testdata/script has the example\n    %s", example)
		}
		for _, word := range strings.Fields(line) {
			flag, _, _ := strings.Cut(word, "=")
			used[flag] = true
		}
	}
	_, idle, _ := strings.Cut(string(doc), "### What docker has and lamina needs not\n")
	idle, _, _ = strings.Cut(idle, "#")
	build.New(&cli.Env{}).Flags().VisitAll(func(f *pflag.Flag) {
		short := f.Shorthand != "" && used["-"+f.Shorthand]
		if !f.Hidden && !used["--"+f.Name] && !short && !strings.Contains(idle, "`--"+f.Name+"`") {
			t.Errorf("docs/build.md has no example of --%s", f.Name)
		}
	})
}

// scriptCommands are the builds of all scripts, as buildCommand returns them.
func scriptCommands(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	commands := map[string]bool{watchExample: true}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			commands[buildCommand(line)] = true
		}
	}
	return commands
}

// buildCommand returns the build in a line of a script or of the documentation,
// without what only a script or only a shell needs.
func buildCommand(line string) string {
	_, command, ok := strings.Cut(line, "lamina build ")
	if !ok {
		return ""
	}
	command, _, _ = strings.Cut(command, ";")
	words := []string{"lamina", "build"}
	for _, word := range strings.Fields(strings.ReplaceAll(command, "'", "")) {
		if word == "--no-cache" || word == "--progress=plain" || strings.HasPrefix(word, "<") || strings.HasPrefix(word, "2>") {
			continue
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
