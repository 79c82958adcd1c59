package fileset

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSelectParentsErrors(t *testing.T) {
	ignoring, err := Ignore(selectTree(), rules(t, "# generated", "cmd/sub"))
	must(t, err)
	for _, tc := range []struct {
		query   Query
		want    string
		missing bool
	}{
		{Query{Paths: []string{"cmd/mian.go"}}, `"cmd/mian.go" not found; did you mean "cmd/main.go"?`, true},
		{Query{Paths: []string{"cmd/./mian.go"}}, `"cmd/./mian.go" not found; did you mean "cmd/main.go"?`, true},
		{Query{Paths: []string{"cmb/./*.go"}}, `"cmb" not found; did you mean "cmd"?`, true},
		{Query{Paths: []string{"cmd/sub/main.go"}}, `"cmd/sub/main.go" is excluded by line 2 of .dockerignore: "cmd/sub"`, true},
		{Query{Paths: []string{"to-dir/main.go"}}, `"to-dir/main.go" leads through a link, which --parents does not follow: it is "cmd/sub/main.go"`, false},
		{Query{Paths: []string{"a.go"}, Exclude: []string{"*.go"}}, `--exclude leaves nothing of "a.go"`, false},
		{Query{Paths: []string{"."}}, `"." with --parents names no file: end it in **, or leave --parents out`, false},
		{Query{Paths: []string{"cmd/./"}}, `"cmd/./" with --parents names no file: end it in **, or leave --parents out`, false},
		{Query{Paths: []string{"cmd/[a"}}, `"cmd/[a" is not a valid pattern`, false},
	} {
		tree := ignoring
		if tc.query.Paths[0] == "to-dir/main.go" {
			tree = selectTree()
		}
		tc.query.Parents = true
		_, err := Select(t.Context(), tree, tc.query)
		if err == nil || err.Error() != tc.want {
			t.Errorf("Select(%q)\n got %v\nwant %s", tc.query.Paths, err, tc.want)
		}
		if errors.Is(err, fs.ErrNotExist) != tc.missing {
			t.Errorf("Select(%q): is the error fs.ErrNotExist: %t", tc.query.Paths, !tc.missing)
		}
	}
}

// What --parents and --exclude leave out does not count for the identity, and what
// they keep does.
func TestDigestFiltered(t *testing.T) {
	digest := func(q Query, tree fakeTree) string {
		t.Helper()
		s, err := Select(t.Context(), tree, q)
		must(t, err)
		id, err := s.Digest(t.Context(), Hash{}, DigestOptions{})
		must(t, err)
		return id.Digest.String()
	}
	parents := Query{Paths: []string{"d/sub/file"}, Parents: true}
	exclude := Query{Paths: []string{"d"}, Exclude: []string{"sub/file"}}
	for _, tc := range []struct {
		name             string
		change           func(fakeTree)
		parents, exclude bool
	}{
		{"nothing", func(fakeTree) {}, false, false},
		{"the file below", func(tr fakeTree) { tr["d/sub/file"] = file(0o644, "other").own(102, 202) }, true, false},
		{"another file", func(tr fakeTree) { tr["d/in"] = file(0o600, "other").own(5, 6) }, false, true},
		{"a directory's mode", func(tr fakeTree) { tr["d/sub"] = dir(0o700).own(101, 201) }, true, true},
		{"a directory's time", func(tr fakeTree) { tr["d/sub"] = dir(0o1770).own(101, 201).at(time.Unix(1, 0)) }, false, false},
		{"the mode of the directory that is named", func(tr fakeTree) { tr["d"] = dir(0o711).own(100, 200) }, true, false},
	} {
		changed := sourceTree()
		tc.change(changed)
		if got := digest(parents, changed) != digest(parents, sourceTree()); got != tc.parents {
			t.Errorf("%s: does it change the identity with --parents: %t", tc.name, got)
		}
		if got := digest(exclude, changed) != digest(exclude, sourceTree()); got != tc.exclude {
			t.Errorf("%s: does it change the identity with --exclude: %t", tc.name, got)
		}
	}
}

func TestCopyParents(t *testing.T) {
	base := fakeTree{
		"d":      dir(0o755).own(7, 7).at(time.Unix(3000, 0)).attr("user.base", "b"),
		"d/kept": file(0o644, "kept"),
	}
	s, err := Select(t.Context(), sourceTree(), Query{Paths: []string{"d/sub/file"}, Parents: true})
	must(t, err)
	got, err := copied(t, base, []From{{Selection: s}}, CopyOptions{Dest: "/", Owner: &Owner{8, 9}})
	must(t, err)
	want := `
d dir 0700 7:7 2030-01-01T00:00:00Z user.base="b"
d/sub dir 1770 8:9 2030-01-01T00:00:00Z
d/sub/file file 0644 8:9 "deep"
`
	if diff := cmp.Diff(want, "\n"+got); diff != "" {
		t.Error(diff)
	}
}
