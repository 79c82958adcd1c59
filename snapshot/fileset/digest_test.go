package fileset

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

func identify(t testing.TB, tree snapshot.Tree, opt DigestOptions, paths ...string) (digest.Digest, []Sum) {
	t.Helper()
	s, err := Select(t.Context(), tree, Query{Paths: paths})
	must(t, err)
	var table []Sum
	opt.Table = appendTo(&table)
	id, err := s.Digest(t.Context(), Hash{}, opt)
	must(t, err)
	return id.Digest, table
}

func digestTree() fakeTree {
	return fakeTree{
		"d":           dir(0o700).own(1, 2),
		"d/sub":       dir(0o750).own(3, 4),
		"d/sub/file":  file(0o644, "content").own(5, 6),
		"d/sub/other": file(0o644, "other"),
		"d/link":      link("sub/file"),
		"d/tty":       fakeFile{}.kind(snapshot.CharDevice, 4, 1),
		"d/pipe":      fakeFile{}.kind(snapshot.Fifo, 0, 0),
		"d/sock":      fakeFile{}.kind(snapshot.Socket, 0, 0),
		"d/x":         file(0o755, "x").attr(capability, "cap"),
		"d/h1":        file(0o644, "hard").ino(7, 2),
		"d/h2":        file(0o644, "hard").ino(7, 2),
		"e":           dir(0o755),
		"e/sub":       dir(0o750).own(3, 4),
		"f":           file(0o644, "content").own(5, 6),
	}
}

// TestDigestPinned holds identities across versions: whoever changes them
// makes every remembered COPY a miss, and must change identityVersion.
func TestDigestPinned(t *testing.T) {
	id, table := identify(t, digestTree(), DigestOptions{}, "d", "f")
	want := []Sum{
		{Name: "d/h1", Mode: 0o100644, Digest: digest.FromString("hard")},
		{Name: "d/h2", Mode: 0o100644, Digest: digest.FromString("hard link\x00h1")},
		{Name: "d/link", Mode: 0o120777, Digest: digest.FromString("sub/file")},
		{Name: "d/pipe", Mode: 0o010000},
		{Name: "d/sock", Mode: 0o100000, Digest: digest.FromString("")},
		{Name: "d/sub", Mode: 0o040750, UID: 3, GID: 4},
		{Name: "d/sub/file", Mode: 0o100644, UID: 5, GID: 6, Digest: digest.FromString("content")},
		{Name: "d/sub/other", Mode: 0o100644, Digest: digest.FromString("other")},
		{Name: "d/tty", Mode: 0o020000, Digest: digest.FromString("4:1")},
		{Name: "d/x", Mode: 0o100755, Digest: withXattrs(digest.FromString("x"), map[string]string{capability: "cap"})},
		{Name: "f", Mode: 0o100644, UID: 5, GID: 6, Digest: digest.FromString("content")},
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	const pinned = "sha256:ac1691d2bc521a293d617f7cf17fed5dda6df3589feff0115b53159696097123"
	if id != pinned {
		t.Errorf("identity is %s, want %s", id, pinned)
	}
}

// TestDigestCounts changes one thing at a time.
func TestDigestCounts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		paths  string
		opt    DigestOptions
		change func(fakeTree)
		counts bool
	}{
		{"content", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/file"] = file(0o644, "CONTENT").own(5, 6) }, true},
		{"mode", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/file"] = file(0o600, "content").own(5, 6) }, true},
		{"setuid", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/file"] = file(0o4644, "content").own(5, 6) }, true},
		{"owner", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/file"] = file(0o644, "content").own(6, 6) }, true},
		{"group", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/file"] = file(0o644, "content").own(5, 5) }, true},
		{"owner that is reset", "d", DigestOptions{ResetOwner: true}, func(t fakeTree) { t["d/sub/file"] = file(0o644, "content").own(6, 7) }, false},
		{"time", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/file"] = t["d/sub/file"].at(time.Unix(5, 0)) }, false},
		{"time of a directory", "d", DigestOptions{}, func(t fakeTree) { t["d/sub"] = t["d/sub"].at(time.Unix(5, 0)) }, false},
		{"mode of a subdirectory", "d", DigestOptions{}, func(t fakeTree) { t["d/sub"] = dir(0o755).own(3, 4) }, true},
		{"owner of a subdirectory", "d", DigestOptions{}, func(t fakeTree) { t["d/sub"] = dir(0o750).own(0, 4) }, true},
		{"attributes of the selected directory", "d", DigestOptions{}, func(t fakeTree) { t["d"] = dir(0o755).own(9, 9).attr(capability, "x") }, false},
		{"link target", "d", DigestOptions{}, func(t fakeTree) { t["d/link"] = link("sub/other") }, true},
		{"mode of a link", "d", DigestOptions{}, func(t fakeTree) { l := link("sub/file"); l.Mode = 0o755; t["d/link"] = l }, false},
		{"device", "d", DigestOptions{}, func(t fakeTree) { t["d/tty"] = fakeFile{}.kind(snapshot.CharDevice, 4, 2) }, true},
		{"kind of device", "d", DigestOptions{}, func(t fakeTree) { t["d/tty"] = fakeFile{}.kind(snapshot.BlockDevice, 4, 1) }, true},
		{"socket or empty file", "d", DigestOptions{}, func(t fakeTree) { t["d/sock"] = file(0, "") }, false},
		{"extended attribute", "d", DigestOptions{}, func(t fakeTree) { t["d/x"] = file(0o755, "x").attr(capability, "CAP") }, true},
		{"no extended attribute", "d", DigestOptions{}, func(t fakeTree) { t["d/x"] = file(0o755, "x") }, true},
		{"extended attribute of a directory", "d", DigestOptions{}, func(t fakeTree) { t["d/sub"] = t["d/sub"].attr("user.a", "b") }, true},
		{"hard links become copies", "d", DigestOptions{}, func(t fakeTree) { t["d/h2"] = file(0o644, "hard").ino(8, 2) }, true},
		{"hard link out of the selection", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/other"] = file(0o644, "other").ino(9, 2) }, false},
		{"other inode numbers", "d", DigestOptions{}, func(t fakeTree) {
			t["d/h1"], t["d/h2"] = file(0o644, "hard").ino(99, 2), file(0o644, "hard").ino(99, 2)
		}, false},
		{"new file", "d", DigestOptions{}, func(t fakeTree) { t["d/new"] = file(0o644, "") }, true},
		{"new empty directory", "d", DigestOptions{}, func(t fakeTree) { t["d/new"] = dir(0o755) }, true},
		{"file elsewhere", "d", DigestOptions{}, func(t fakeTree) { t["g"] = file(0o644, "g") }, false},
		{"renamed file", "d", DigestOptions{}, func(t fakeTree) { t["d/sub/name"] = t["d/sub/file"]; delete(t, "d/sub/file") }, true},
		{"renamed match of a pattern", "f*", DigestOptions{}, func(t fakeTree) { t["ff"] = t["f"]; delete(t, "f") }, true},
		{"moved match of a pattern", "*/sub", DigestOptions{}, func(t fakeTree) {
			for _, n := range []string{"d/sub", "d/sub/file", "d/sub/other"} {
				t["a"] = dir(0o755)
				t["a"+n[1:]] = t[n]
				delete(t, n)
			}
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := identify(t, digestTree(), tc.opt, strings.Fields(tc.paths)...)
			tree := digestTree()
			tc.change(tree)
			after, _ := identify(t, tree, tc.opt, strings.Fields(tc.paths)...)
			if (before != after) != tc.counts {
				t.Errorf("the identity changes: %v, want %v", before != after, tc.counts)
			}
		})
	}
}

func TestDigestSaysWhatIsSelected(t *testing.T) {
	tree := fakeTree{
		"a": file(0o644, "1"), "b": file(0o644, "1"), "l": link("a"),
		"d": dir(0o755), "d/a": file(0o644, "1"), "m": link("d"),
	}
	seen := map[digest.Digest]string{}
	for _, paths := range []string{"a", "b", "l", "a b", "b a", "a a", "d", "d a", "a d", "."} {
		id, _ := identify(t, tree, DigestOptions{}, strings.Fields(paths)...)
		if old, ok := seen[id]; ok {
			t.Errorf("%q and %q are the same", old, paths)
		}
		seen[id] = paths
	}
	for _, same := range [][2]string{{"d", "m"}, {"d", "d/."}, {"d/a", "a"}, {"?", "a b d l m"}} {
		one, _ := identify(t, tree, DigestOptions{}, strings.Fields(same[0])...)
		two, _ := identify(t, tree, DigestOptions{}, strings.Fields(same[1])...)
		if one != two {
			t.Errorf("%q and %q differ", same[0], same[1])
		}
	}
}

// TestDigestIgnoresOrderOnDisk makes the same files in opposite orders, which some
// filesystems list in the order in which they were made.
func TestDigestIgnoresOrderOnDisk(t *testing.T) {
	files := map[string]string{}
	for _, n := range []string{"a", "b/c", "b/d", "b-", "z/y/x", "m"} {
		files[n] = n
	}
	forth, back := t.TempDir(), t.TempDir()
	sorted := slices.Sorted(maps.Keys(files))
	for _, n := range sorted {
		writeFile(t, filepath.Join(forth, n), files[n])
	}
	slices.Reverse(sorted)
	for _, n := range sorted {
		writeFile(t, filepath.Join(back, n), files[n])
	}
	opt := DigestOptions{ResetOwner: true}
	one, _ := identify(t, host(t, forth), opt, ".")
	two, _ := identify(t, host(t, back), opt, ".")
	if one != two {
		t.Error("the identity depends on the order in which files were made")
	}
}

func writeFile(t testing.TB, name, data string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(data), 0o644))
}

// vanishing fails to open what it has just listed.
type vanishing struct{ fakeTree }

func (t vanishing) Open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func TestDigestErrors(t *testing.T) {
	s, err := Select(t.Context(), vanishing{digestTree()}, Query{Paths: []string{"d"}})
	must(t, err)
	_, err = s.Digest(t.Context(), Hash{}, DigestOptions{})
	if !errors.Is(err, ErrChanged) || !strings.HasPrefix(err.Error(), "d/") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Digest of files that vanish = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Digest(ctx, Hash{}, DigestOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Digest with a canceled context = %v", err)
	}
}
