package fileset

import (
	"bufio"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rules are those of a .dockerignore with these lines.
func rules(t testing.TB, lines ...string) Rules {
	t.Helper()
	rs, err := ReadIgnore(".dockerignore", strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestReadIgnore(t *testing.T) {
	got := rules(t, "\ufeff# comment", "", "  /a/b/../c ", "!d", "#e", "! f", "*.go\r", "\ufeffg")
	want := []string{"a/c", "!d", "!f", "*.go", "\ufeffg"}
	if diff := cmp.Diff(want, got.Patterns()); diff != "" {
		t.Error(diff)
	}
	for i, want := range []string{
		`line 3 of .dockerignore: "/a/b/../c"`, `line 4 of .dockerignore: "!d"`,
		`line 6 of .dockerignore: "! f"`, `line 7 of .dockerignore: "*.go"`,
	} {
		if got[i].String() != want {
			t.Errorf("rule %d is %s, want %s", i, got[i], want)
		}
	}
}

func TestReadIgnoreErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a\n!":       `app.dockerignore:2: "!" is not a valid pattern: illegal exclusion pattern: "!"`,
		"a\nb\n\n[a": `app.dockerignore:4: "[a" is not a valid pattern: syntax error in pattern`,
		strings.Repeat("a", bufio.MaxScanTokenSize+1): `app.dockerignore: a line is longer than 65536 bytes`,
	} {
		if _, err := ReadIgnore("app.dockerignore", strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("ReadIgnore(%.20q) = %v, want %s", text, err, want)
		}
	}
}

func TestRulesExclude(t *testing.T) {
	rs := rules(t, "*.log", "# what follows is by hand", "a", "!a/b", "/a/*", "**/deep/**", "!x.log")
	for name, want := range map[string]string{
		"a/b":        `line 5 of .dockerignore: "/a/*"`, // included by line 4 in between
		"a":          `line 3 of .dockerignore: "a"`,
		"a/c/d":      `line 3 of .dockerignore: "a"`,
		"y.log":      `line 1 of .dockerignore: "*.log"`,
		"/y.log":     `line 1 of .dockerignore: "*.log"`,
		"x.log":      "",
		"c":          "",
		"c/y.log":    "",
		"c/deep/y":   `line 6 of .dockerignore: "**/deep/**"`,
		"c/../y.log": `line 1 of .dockerignore: "*.log"`,
		".":          "",
	} {
		got := ""
		if r, ok := rs.Excludes(name); ok {
			got = r.String()
		}
		if got != want {
			t.Errorf("%s is excluded by %s, want %s", name, got, want)
		}
	}
}
