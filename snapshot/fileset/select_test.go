package fileset

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
)

// picked renders a selection as "base=name" for files and "name/" for directories.
func picked(s *Selection) string {
	var out []string
	for _, m := range s.matches {
		if m.entry.Kind == snapshot.Dir {
			out = append(out, m.name+"/")
		} else {
			out = append(out, m.base+"="+m.name)
		}
	}
	return strings.Join(out, " ")
}

func selectTree() fakeTree {
	return fakeTree{
		"a.go":                 file(0o644, "a"),
		"b.go":                 file(0o644, "b"),
		"star*":                file(0o644, "*"),
		"cmd":                  dir(0o755),
		"cmd/main.go":          file(0o644, "m"),
		"cmd/sub":              dir(0o755),
		"cmd/sub/main.go":      file(0o644, "s"),
		"cmd/sub/deep":         dir(0o755),
		"cmd/sub/deep/main.go": file(0o644, "d"),
		"one.d":                dir(0o755),
		"one.d/x.d":            dir(0o755),
		"one.d/x.d/y":          file(0o644, "y"),
		"to-file":              link("cmd/main.go"),
		"to-dir":               link("cmd/sub"),
		"abs":                  link("/cmd/sub"),
		"up":                   link("../../../cmd"),
		"chain":                link("to-dir"),
		"dangling":             link("nowhere"),
		"loop":                 link("loop"),
	}
}

func TestSelect(t *testing.T) {
	for _, tc := range []struct {
		paths string
		want  string
	}{
		{".", "./"},
		{"/", "./"},
		{"a.go", "a.go=a.go"},
		{"./a.go", "a.go=a.go"},
		{"/a.go", "a.go=a.go"},
		{"../../a.go", "a.go=a.go"},
		{"cmd/../a.go", "a.go=a.go"},
		{"a.go/", "a.go=a.go"},
		{"cmd", "cmd/"},
		{"cmd/", "cmd/"},
		{"cmd/.", "cmd/"},
		{"b.go a.go b.go", "b.go=b.go a.go=a.go b.go=b.go"},
		{"*.go", "a.go=a.go b.go=b.go"},
		{"?.go", "a.go=a.go b.go=b.go"},
		{"[b-z].go", "b.go=b.go"},
		{`star\*`, "star*=star*"},
		{"star[*]", "star*=star*"},
		{`s*\*`, "star*=star*"},
		{"cmd/*", "main.go=cmd/main.go cmd/sub/"},
		{"*/main.go", "main.go=cmd/main.go"},
		{"*.txt a.go", "a.go=a.go"},
		{"*.txt", ""},
		{"cmd/*.txt", ""},
		{"**/main.go", "main.go=cmd/main.go"},
		{"**/sub/**/main.go", "main.go=cmd/sub/deep/main.go"},
		{"cmd/**", "main.go=cmd/main.go cmd/sub/"},
		{"**/*.d", "one.d/x.d/"},
		{"to-file", "to-file=cmd/main.go"},
		{"to-*", "cmd/sub/ to-file=cmd/main.go"},
		{"to-dir/main.go", "main.go=cmd/sub/main.go"},
		{"to-dir/*.go", "main.go=cmd/sub/main.go"},
		{"abs/main.go", "main.go=cmd/sub/main.go"},
		{"up/main.go", "main.go=cmd/main.go"},
		{"chain", "cmd/sub/"},
		{"*/deep", ""}, // a pattern does not go through links, nor two levels down
	} {
		s, err := Select(t.Context(), selectTree(), Query{Paths: strings.Fields(tc.paths)})
		if err != nil {
			t.Errorf("Select(%q): %v", tc.paths, err)
			continue
		}
		if got := picked(s); got != tc.want {
			t.Errorf("Select(%q)\n got %s\nwant %s", tc.paths, got, tc.want)
		}
		if s.Len() != len(strings.Fields(tc.want)) {
			t.Errorf("Select(%q) has length %d", tc.paths, s.Len())
		}
	}
}

func TestSelectErrors(t *testing.T) {
	ignoring, err := Ignore(selectTree(), rules(t, "cmd/*.go", "!b.go"))
	must(t, err)
	for _, tc := range []struct {
		tree snapshot.Tree
		path string
		want string
	}{
		{selectTree(), "c.go", `"c.go" not found; did you mean "a.go" or "b.go"?`},
		{selectTree(), "A.GO", `"A.GO" not found; did you mean "a.go" or "b.go"?`},
		{selectTree(), "deep", `"deep" not found; did you mean "cmd/sub/deep"?`},
		{selectTree(), "main.go", `"main.go" not found; did you mean "cmd/main.go", "cmd/sub/deep/main.go" or "cmd/sub/main.go"?`},
		{selectTree(), "unlike-anything", `"unlike-anything" not found`},
		{selectTree(), "a.go/x", `"a.go/x" not found`},
		{selectTree(), "dangling", `"dangling" is a link to "nowhere", which does not exist`},
		{selectTree(), "d*g", `"dangling" is a link to "nowhere", which does not exist`},
		{selectTree(), "loop", `resolve loop: too many levels of symbolic links`},
		{selectTree(), "[a", `"[a" is not a valid pattern`},
		{selectTree(), "cnd/*.go", `"cnd" not found; did you mean "cmd"?`},
		{selectTree(), "dangling/*", `"dangling" is a link to "nowhere", which does not exist`},
		{selectTree(), "a.go/*", `"a.go/*" matches no file: "a.go" is not a directory`},
		{selectTree(), "unlike/*/x", `"unlike" not found`},
		{ignoring, "cmd/main.go", `"cmd/main.go" is excluded by line 1 of .dockerignore: "cmd/*.go"`},
		{ignoring, "to-file", `"to-file" is excluded by line 1 of .dockerignore: "cmd/*.go"`},
	} {
		_, err := Select(t.Context(), tc.tree, Query{Paths: []string{tc.path}})
		if err == nil || err.Error() != tc.want {
			t.Errorf("Select(%q)\n got %v\nwant %s", tc.path, err, tc.want)
		}
		var nf *NotFoundError
		if errors.As(err, &nf) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Select(%q): the error is not fs.ErrNotExist", tc.path)
		}
	}
}

func TestSelectCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Select(ctx, selectTree(), Query{Paths: []string{"*"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Select = %v", err)
	}
}

func TestEditDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "a", 0}, {"a", "b", 1}, {"ab", "a", 1}, {"a", "ab", 1},
		{"kitten", "sitting", 3}, {"makefile", "makefiel", 2}, {"a", "abcdefghij", 5 + 1},
	} {
		if got := editDistance(tc.a, tc.b, 5); got != tc.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestCompareWalk(t *testing.T) {
	want := []string{"a", "a/b", "a/b/c", "a-b", "b"}
	tree := memory("a/b/c", "a-b", "b")
	if diff := cmp.Diff(want, names(t, tree)); diff != "" {
		t.Fatal(diff)
	}
	for i := range len(want) - 1 {
		if compareWalk(want[i], want[i+1]) >= 0 {
			t.Errorf("%s is not before %s", want[i], want[i+1])
		}
	}
}
