package frontend

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lamina/snapshot/fileset"
)

// TestCheck compares what the checks find in testdata/lint/*.txtar with what the
// reference's linter finds:
//
//	-- Dockerfile --         or Dockerfile.quoted, as a Go string
//	-- args --               --target NAME, --build-arg KEY=VALUE or --platform P
//	-- .dockerignore --      or Dockerfile.dockerignore
//	-- images --             as in testdata/lower; an image called base is always there
//	-- want --               LINE: RULE: TEXT each, and "error LINE: TEXT" if there is one
//
// The text of errors is the reference's; ours is our own.
func TestCheck(t *testing.T) {
	names, err := filepath.Glob("../testdata/lint/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			c := readCheckCase(t, name)
			report, err := Check(context.Background(), "Dockerfile", c.dockerfile, c.images, c.options)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			wantError := false
			for line := range strings.Lines(c.want) {
				if strings.HasPrefix(line, "error ") {
					wantError = true
					continue
				}
				want = append(want, strings.TrimSuffix(line, "\n"))
			}
			if diff := cmp.Diff(want, describeWarnings(report.Warnings)); diff != "" {
				t.Errorf("warnings (-reference +ours):\n%s", diff)
			}
			if got := report.Error != nil || len(report.Failed) > 0; got != wantError {
				t.Errorf("error: %v, failed checks: %q; the reference has one: %v", report.Error, report.Failed, wantError)
			}
		})
	}
}

// describeWarnings is a line for each warning.
func describeWarnings(warnings []Warning) []string {
	var all []string
	for _, w := range warnings {
		lines := strconv.Itoa(w.Pos.First)
		if w.Pos.Last > w.Pos.First {
			lines += "-" + strconv.Itoa(w.Pos.Last)
		}
		all = append(all, fmt.Sprintf("%s: %s: %s", lines, w.Rule, w.Text))
	}
	return all
}

// readCheckCase reads a case of [TestCheck].
func readCheckCase(t *testing.T, name string) *testcase {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	c := &testcase{archive: archive, images: images{"base": []byte(`{"os": "linux", "architecture": "amd64"}`)}}
	c.option(t, "platform linux/amd64") // which Check does not look at
	c.options.BuildPlatform, c.options.Platforms = c.options.Platforms[0], nil
	for _, f := range archive.Files {
		switch f.Name {
		case "Dockerfile":
			c.dockerfile = f.Data
		case "Dockerfile.quoted":
			text, err := strconv.Unquote(strings.TrimSpace(string(f.Data)))
			if err != nil {
				t.Fatal(err)
			}
			c.dockerfile = []byte(text)
		case "args":
			args := strings.Fields(string(f.Data))
			for i := 0; i+1 < len(args); i += 2 {
				option := map[string]string{"--target": "target ", "--build-arg": "arg ", "--platform": "platform "}[args[i]]
				c.option(t, option+args[i+1])
			}
		case ".dockerignore", "Dockerfile.dockerignore":
			rules, err := fileset.ReadIgnore(f.Name, bytes.NewReader(f.Data))
			if err != nil {
				t.Fatal(err)
			}
			c.options.Ignored = rules.SourceCheck()
		case "images":
			c.images = parseImages(t, f.Data)
		case "want":
			c.want = string(f.Data)
		default:
			t.Fatalf("unknown file %q", f.Name)
		}
	}
	return c
}

// TestRules sees to it that every rule of the reference has a case, a name here,
// and the description and URL that are its.
func TestRules(t *testing.T) {
	names, err := filepath.Glob("../testdata/lint/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range names {
		c := readCheckCase(t, name)
		report, err := Check(context.Background(), "Dockerfile", c.dockerfile, c.images, c.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range report.Warnings {
			found[w.Rule] = true
			if w.Description == "" {
				t.Errorf("%s has no description", w.Rule)
			}
			const noPage = "InvalidBaseImagePlatform" // the reference has none
			if dir, page := path.Split(strings.TrimSuffix(w.URL, "/")); w.Rule != noPage &&
				(dir != "https://docs.docker.com/go/dockerfile/rule/" || !strings.EqualFold(strings.ReplaceAll(page, "-", ""), w.Rule)) {
				t.Errorf("%s has the page %q", w.Rule, w.URL)
			}
		}
	}
	for _, rule := range ruleNames() {
		if !found[rule] {
			t.Errorf("no case finds %s", rule)
		}
		delete(found, rule)
	}
	for rule := range found {
		t.Errorf("%s is no rule that is known", rule)
	}
}

// TestCheckLongLine holds that a line is refused where the reference refuses it.
func TestCheckLongLine(t *testing.T) {
	const longest = 64 << 10 // bytes, with the newline
	for _, length := range []int{longest, longest + 1} {
		const begin = "LABEL a="
		src := "FROM scratch\n" + begin + strings.Repeat("x", length-len(begin)-1) + "\n"
		report, err := Check(context.Background(), "Dockerfile", []byte(src), images{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if (report.Error != nil) != (length > longest) {
			t.Errorf("a line of %d bytes: error %v", length, report.Error)
		}
	}
}
