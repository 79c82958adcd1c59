package fileset

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"

	"lamina/snapshot"
)

// walked lists what walk finds of m, "(a)" for a directory that is only above
// something.
func walked(t *testing.T, tree snapshot.Tree, f *filter) string {
	t.Helper()
	e, err := tree.Lstat(".")
	must(t, err)
	var all []string
	must(t, walk(t.Context(), tree, match{name: ".", entry: e, filter: f}, func(it item) error {
		switch {
		case it.isTop():
		case it.above:
			all = append(all, "("+it.rel+")")
		case it.link != "":
			all = append(all, it.rel+"="+it.link)
		default:
			all = append(all, it.rel)
		}
		return nil
	}))
	return strings.Join(all, " ")
}

func TestWalkFiltered(t *testing.T) {
	tree := memory("a/b/c", "a/b/d", "a/e", "f", "g/h")
	for _, tc := range []struct {
		name             string
		include, exclude string
		want             string
	}{
		{"a directory without its files", "", "a/* g", "a f"},
		{"a file", "", "a/b/c", "a a/b a/b/d a/e f g g/h"},
		{"at any depth", "", "**/c **/h", "a a/b a/b/d a/e f g"},
		{"the whole path counts", "", "c h", "a a/b a/b/c a/b/d a/e f g g/h"},
		{"included again", "", "a !a/b/c", "(a) (a/b) a/b/c f g g/h"},
		{"included again in vain", "", "a !a/none", "f g g/h"},
		{"everything", "", "*", ""},
		{"parents of a file", "a/b/c", "", "(a) (a/b) a/b/c"},
		{"parents of a directory", "a/b", "", "(a) a/b a/b/c a/b/d"},
		{"parents of all of a name", "**/[ch]", "", "(a) (a/b) a/b/c (g) g/h"},
		{"no parents of nothing", "a/b/x", "", ""},
		{"parents and exclude", "a", "a/b/c", "a a/b a/b/d a/e"},
		{"parents and exclude, included again", "a", "a/b !a/b/c", "a (a/b) a/b/c a/e"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var include []string
			if tc.include != "" {
				include = []string{tc.include}
			}
			f, err := newFilter(include, strings.Fields(tc.exclude))
			must(t, err)
			if diff := cmp.Diff(tc.want, walked(t, tree, f)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A hard link is one to a file that is there too.
func TestWalkFilteredHardLinks(t *testing.T) {
	tree := fakeTree{
		"h1": file(0o644, "x").ino(9, 3), "h2": file(0o644, "x").ino(9, 3), "h3": file(0o644, "x").ino(9, 3),
	}
	f, err := newFilter(nil, []string{"h1"})
	must(t, err)
	if got := walked(t, tree, f); got != "h2 h3=h2" {
		t.Errorf("walked %s", got)
	}
}

func TestWalkFilteredReadsLittle(t *testing.T) {
	tree := countingTree{memory("a/b/c", "a/x/y", "node_modules/m/i", "src/z"), map[string]int{}}
	for _, tc := range []struct {
		include, exclude []string
		want             map[string]int
	}{
		{[]string{"a/*/c"}, nil, map[string]int{".": 1, "a": 1, "a/b": 1, "a/x": 1}},
		{nil, []string{"node_modules", "a"}, map[string]int{".": 1, "src": 1}},
		{nil, []string{"*", "!src"}, map[string]int{".": 1, "src": 1}},
	} {
		clear(tree.reads)
		f, err := newFilter(tc.include, tc.exclude)
		must(t, err)
		walked(t, tree, f)
		if diff := cmp.Diff(tc.want, tree.reads); diff != "" {
			t.Errorf("include %q, exclude %q (-want +got):\n%s", tc.include, tc.exclude, diff)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for _, tc := range []struct {
		include, exclude []string
		want             string
	}{
		{[]string{"[a"}, nil, `"[a" is not a valid pattern`},
		{nil, []string{"a", "[b"}, `--exclude=[b is not a valid pattern: syntax error in pattern`},
		{nil, []string{"!"}, `--exclude=! is not a valid pattern: illegal exclusion pattern: "!"`},
	} {
		if _, err := newFilter(tc.include, tc.exclude); err == nil || err.Error() != tc.want {
			t.Errorf("newFilter(%q, %q) = %v, want %s", tc.include, tc.exclude, err, tc.want)
		}
	}
}

// FuzzFilter compares a walk with one that asks about every path and prunes nothing.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"a/b|", "**/c|a/b", "|*\n!a/b", "a*|a/b\n!**/c", "*/b|!a\n*/b/a", "[a-b]/b/?|"} {
		f.Add(s)
	}
	tree := memory("a/a", "a/b/a", "a/b/b", "a/b/c", "ab/c", "b/b/b", "b/c", "c", "aXb")
	f.Fuzz(func(t *testing.T, text string) {
		in, ex, _ := strings.Cut(text, "|")
		var include, exclude []string
		if in != "" {
			include = []string{in}
		}
		if ex != "" {
			exclude = strings.Split(ex, "\n")
		}
		fl, err := newFilter(include, exclude)
		if err != nil || fl == nil {
			t.Skip()
		}
		var want []string
		var visit func(dir string, inc, exc patternmatcher.MatchInfo, waiting []string) (bool, error)
		visit = func(dir string, inc, exc patternmatcher.MatchInfo, waiting []string) (any bool, err error) {
			entries, _ := tree.ReadDir(dir)
			for _, e := range entries {
				name := path.Join(dir, e.Name)
				yes, no := true, false
				i, x := inc, exc
				if fl.include != nil {
					if yes, i, err = fl.include.MatchesUsingParentResults(name, inc); err != nil {
						return any, err
					}
				}
				if fl.exclude != nil {
					if no, x, err = fl.exclude.MatchesUsingParentResults(name, exc); err != nil {
						return any, err
					}
				}
				above := waiting
				if yes && !no {
					want, above, waiting, any = append(append(want, waiting...), name), nil, nil, true
				}
				if e.Kind != snapshot.Dir {
					continue
				}
				if !yes || no {
					above = append(append([]string(nil), waiting...), "("+name+")")
				}
				below, err := visit(name, i, x, above)
				if err != nil {
					return any, err
				}
				if below {
					waiting, any = nil, true
				}
			}
			return any, nil
		}
		if _, err := visit(".", patternmatcher.MatchInfo{}, patternmatcher.MatchInfo{}, nil); err != nil {
			t.Skip() // a pattern that turns out to be no regular expression
		}
		if diff := cmp.Diff(strings.Join(want, " "), walked(t, tree, fl)); diff != "" {
			t.Errorf("include %q, exclude %q (-want +got):\n%s", include, exclude, diff)
		}
	})
}
