package fileset

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"

	"lamina/snapshot"
)

func memory(names ...string) snapshot.Tree {
	var files []MemoryFile
	for _, n := range names {
		files = append(files, MemoryFile{Name: n, Mode: 0o644, ModTime: when, Data: []byte(n)})
	}
	return Memory(files...)
}

func TestIgnore(t *testing.T) {
	tree := memory("Dockerfile", "a/b/c/keep", "a/b/c/x", "a/b/y", "a/z", "node_modules/m/i.js", "src/a.go", "src/a_test.go", "src/deep/b_test.go")
	for _, tc := range []struct {
		name     string
		patterns []string
		want     string
	}{
		{"nothing", nil, "Dockerfile a a/b a/b/c a/b/c/keep a/b/c/x a/b/y a/z node_modules node_modules/m node_modules/m/i.js src src/a.go src/a_test.go src/deep src/deep/b_test.go"},
		{"directory", []string{"node_modules", "src", "a"}, "Dockerfile"},
		{"contents", []string{"a/b/c/*", "src", "node_modules"}, "Dockerfile a a/b a/b/c a/b/y a/z"},
		{"any depth", []string{"**/*_test.go", "a", "node_modules"}, "Dockerfile src src/a.go src/deep"},
		{"re-included below an excluded directory", []string{"*", "!a/b/c/keep"}, "a a/b a/b/c a/b/c/keep"},
		{"re-included directory", []string{"*", "!src"}, "src src/a.go src/a_test.go src/deep src/deep/b_test.go"},
		{"the last pattern wins", []string{"*", "!src", "src/a*"}, "src src/deep src/deep/b_test.go"},
		{"re-included by **", []string{"*", "!**/b_test.go"}, "src src/deep src/deep/b_test.go"},
		{"re-included in vain", []string{"*", "!nothing/*"}, ""},
		{"everything", []string{"**"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			it, err := Ignore(tree, rules(t, tc.patterns...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, strings.Join(names(t, it), " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIgnoreHides(t *testing.T) {
	it, err := Ignore(memory("secret/key", "open/door"), rules(t, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := it.Lstat("secret"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat of an ignored directory: %v", err)
	}
	if _, err := it.Lstat("secret/key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat of an ignored file: %v", err)
	}
	if _, err := it.ReadDir("secret"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadDir of an ignored directory: %v", err)
	}
	if _, err := it.Open("secret/key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an ignored file: %v", err)
	}
	if _, err := it.Xattrs("secret/key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Xattrs of an ignored file: %v", err)
	}
	if got := read(t, it, "open/door"); got != "open/door" {
		t.Errorf("open/door is %q", got)
	}
}

// countingTree counts how often each directory is read.
type countingTree struct {
	snapshot.Tree
	reads map[string]int
}

func (t countingTree) ReadDir(name string) ([]snapshot.Entry, error) {
	t.reads[name]++
	return t.Tree.ReadDir(name)
}

func TestIgnorePrunes(t *testing.T) {
	counted := countingTree{memory("a/b/c/d", "keep/x/y", "keep/z/w"), map[string]int{}}
	it, err := Ignore(counted, rules(t, "*", "!keep/x"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(t, it), " "); got != "keep keep/x keep/x/y" {
		t.Errorf("the tree is %s", got)
	}
	for _, d := range []string{"a", "a/b", "a/b/c", "keep/z"} {
		if counted.reads[d] > 0 {
			t.Errorf("%s was read, in which no pattern can include anything", d)
		}
	}
}

// FuzzIgnore compares the tree with what a walk decides that asks the pattern
// library about every path and prunes nothing.
func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*\n!a/b", "a\n!a/b\na/b/c", "**/c\n!a/**", "a*\n!?/b", "!a\n*", "[a-b]\n!a[^x]b", "a/b/c\n!**"} {
		f.Add(s)
	}
	all := []string{"a/a", "a/b/a", "a/b/b", "a/b/c", "ab/c", "b/b/b", "b/c", "c", "aXb"}
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := ReadIgnore(".dockerignore", strings.NewReader(text))
		if err != nil {
			t.Skip()
		}
		patterns := rules.Patterns()
		tree := memory(all...)
		it, err := Ignore(tree, rules)
		m, err2 := patternmatcher.New(patterns)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("Ignore: %v, patternmatcher: %v", err, err2)
		}
		if err != nil {
			t.Skip()
		}
		var want []string
		var walk func(dir string, info patternmatcher.MatchInfo) (bool, error)
		walk = func(dir string, info patternmatcher.MatchInfo) (bool, error) {
			entries, _ := tree.ReadDir(dir)
			some := false
			for _, e := range entries {
				name := path.Join(dir, e.Name)
				excluded, next, err := m.MatchesUsingParentResults(name, info)
				if err != nil {
					return false, err
				}
				at := len(want)
				if !excluded {
					want = append(want, name)
				}
				if e.Kind == snapshot.Dir {
					below, err := walk(name, next)
					if err != nil {
						return false, err
					}
					if excluded && below {
						want = slices.Insert(want, at, name)
						excluded = false
					}
				}
				some = some || !excluded
			}
			return some, nil
		}
		if _, err := walk(".", patternmatcher.MatchInfo{}); err != nil {
			t.Skip() // a pattern that turns out to be no regular expression
		}
		if diff := cmp.Diff(want, names(t, it)); diff != "" {
			t.Errorf("patterns %q (-want +got):\n%s", patterns, diff)
		}
	})
}
