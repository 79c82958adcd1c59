package fileset

import (
	"strings"
	"testing"
)

func TestSourceCheck(t *testing.T) {
	for _, tc := range []struct {
		rules, source string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", true},
		{"a", "/a", false}, // as in the reference
		{"a/b", "a", false},
		{"a/*", "a/b", true},
		{"a/*", "a/*", true},
		{"**/b", "a/b", true},
		{"*.go", "*.go", true},
		{"a\n!a/b", "a", false},
		{".*", ".", false},
		{"*", ".", true},
		{"**", "/", true},
		{"**/*", ".", true},
		{"*", "a", true},
		{"# a", "a", false},
		{"", "a", false},
	} {
		rules, err := ReadIgnore(".dockerignore", strings.NewReader(tc.rules))
		if err != nil {
			t.Fatal(err)
		}
		check := rules.SourceCheck()
		if got := check != nil && check(tc.source); got != tc.want {
			t.Errorf("rules %q: source %q excluded: %v, want %v", tc.rules, tc.source, got, tc.want)
		}
	}
}
