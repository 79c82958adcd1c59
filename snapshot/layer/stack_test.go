package layer_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func TestStack(t *testing.T) {
	tests := []struct {
		name   string
		layers [][]step // lowest first
		want   []string
	}{
		{"no layers", nil, nil},
		{"empty layers", [][]step{{}, {}}, nil},
		{"upper files win",
			[][]step{{file("a", "1"), file("b", "1")}, {file("a", "2"), symlink("c", "a")}},
			[]string{`a "2"`, `b "1"`, "c -> a"}},
		{"directories merge, with the upper attributes",
			[][]step{{mkdir("d", 0o700), file("d/a", "1"), file("d/b", "1")}, {mkdir("d", 0o750), file("d/b", "2"), file("d/c", "2")}},
			[]string{"d/ 750", `d/a "1"`, `d/b "2"`, `d/c "2"`}},
		{"an implied directory has the lower attributes",
			[][]step{{mkdir("d", 0o700), mkdir("d/e", 0o711)}, {file("d/e/x", "1")}, {implied("d/e/f")}},
			[]string{"d/ 700", "d/e/ 711", "d/e/f/ 755", `d/e/x "1"`}},
		{"whiteouts",
			[][]step{{file("a", "1"), file("b", "1"), file("d/x", "1"), file("e/x", "1"), file("e/y", "1")}, {whiteout("a"), whiteout("d"), whiteout("e/x"), whiteout("nothing")}},
			[]string{`b "1"`, "e/ 755", `e/y "1"`}},
		{"what was removed comes back new",
			[][]step{{mkdir("d", 0o700), file("d/x", "1"), file("f", "1")}, {whiteout("d"), whiteout("f")}, {mkdir("d", 0o711), file("f", "3")}},
			[]string{"d/ 711", `f "3"`}},
		{"an implied directory over a whiteout has nobody's attributes",
			[][]step{{mkdir("d", 0o700), file("d/x", "1")}, {whiteout("d")}, {file("d/y", "3")}},
			[]string{"d/ 755", `d/y "3"`}},
		{"an opaque directory hides files",
			[][]step{{mkdir("d", 0o700), file("d/x", "1"), file("d/e/x", "1")}, {mkdir("d", 0o750), opaque("d"), file("d/y", "2")}},
			[]string{"d/ 750", `d/y "2"`}},
		{"an implied opaque directory hides files but not attributes",
			[][]step{{mkdir("d", 0o700), file("d/x", "1")}, {implied("d")}, {opaque("d"), file("d/y", "2")}},
			[]string{"d/ 700", `d/y "2"`}},
		{"an opaque root",
			[][]step{{file("a", "1"), mkdir("d", 0o700)}, {opaque("."), file("b", "2")}, {file("c", "3")}},
			[]string{`b "2"`, `c "3"`}},
		{"a file over a directory",
			[][]step{{file("d/x", "1"), file("d/e/x", "1")}, {file("d", "2")}},
			[]string{`d "2"`}},
		{"a directory over a file, and over a link",
			[][]step{{file("d", "1"), symlink("l", "d")}, {mkdir("d", 0o700), file("l/x", "2")}},
			[]string{"d/ 700", "l/ 755", `l/x "2"`}},
		{"a file between directories",
			[][]step{{file("d/x", "1")}, {file("d", "2")}, {mkdir("d", 0o700), file("d/y", "3")}},
			[]string{"d/ 700", `d/y "3"`}},
		{"a whiteout and a directory of one layer",
			[][]step{{mkdir("d", 0o700), file("d/x", "1")}, {whiteout("d"), file("d/y", "2")}},
			[]string{"d/ 755", `d/y "2"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := open(t, t.TempDir())
			var ids []snapshot.ID
			for i, steps := range tt.layers {
				ids = append(ids, snapshot.ID(fmt.Sprint("l", i)))
				commit(t, p, ids[i], steps...)
			}
			s := stack(t, p, ids...)
			if diff := cmp.Diff(tt.want, show(t, s)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			if len(s.Layers()) != len(ids) {
				t.Errorf("%d layers, want %d", len(s.Layers()), len(ids))
			}
			sameByLists(t, p, ids, s)
		})
	}
}

func TestStackRoot(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "base", func(d *layer.Draft) error { return d.Mkdir(".", mode(0o1700)) })
	commit(t, p, "file", file("a", ""))
	for _, tt := range []struct {
		ids  []snapshot.ID
		want uint32
	}{
		{nil, 0o755}, {[]snapshot.ID{"file"}, 0o755},
		{[]snapshot.ID{"base", "file"}, 0o1700}, {[]snapshot.ID{"file", "base"}, 0o1700},
	} {
		e, err := stack(t, p, tt.ids...).Lstat(".")
		if err != nil {
			t.Fatal(err)
		}
		if e.Name != "." || e.Kind != snapshot.Dir || e.Mode != tt.want {
			t.Errorf("root of %v is %+v, want mode %o", tt.ids, e, tt.want)
		}
	}
}

// Names that lead through a link, or anything but a directory, do not exist; the
// machine's own files never do.
func TestNamesThatDoNotExist(t *testing.T) {
	p := open(t, t.TempDir())
	steps := []step{file("d/x", "1"), symlink("l", "d"), symlink("etc", "/etc"), symlink("up", "../../../../../../.."), whiteout("w"), file("f", "")}
	commit(t, p, "a", steps...)
	commit(t, p, "b", file("other", ""))
	d := draft(t, p)
	for _, s := range steps {
		if err := s(d); err != nil {
			t.Fatal(err)
		}
	}
	for kind, tree := range map[string]snapshot.Tree{"stack": stack(t, p, "a", "b"), "draft": d} {
		t.Run(kind, func(t *testing.T) {
			for _, name := range []string{"nothing", "d/nothing", "l/x", "etc/passwd", "up/etc/passwd", "w", "w/x", "f/x", "d/x/y", strings.Repeat("d/", 3000) + "x", strings.Repeat("x", 300)} {
				wantMissing(t, tree, name)
			}
			for _, name := range []string{"", "/", "/etc", "..", "../x", "d/..", "d/../f", "d/", "d//x", "./f", "f\x00"} {
				if _, err := tree.Lstat(name); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("Lstat(%q): got error %v, want fs.ErrInvalid", name, err)
				}
				if _, err := tree.Open(name); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("Open(%q): got error %v, want fs.ErrInvalid", name, err)
				}
			}
			for _, name := range []string{"d", "l", "."} {
				if f, err := tree.Open(name); err == nil || f != nil {
					t.Errorf("Open(%q), which is no regular file: got %v, %v", name, f, err)
				}
			}
			if got, err := snapshot.Resolve(tree, "up/l/../l/x", true); err != nil || got != "d/x" {
				t.Errorf("Resolve: got %q, %v", got, err)
			}
		})
	}
}

// Two names of one file are told by their inode, and two files are not.
func TestHardLinks(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "a", file("x", "1"), func(d *layer.Draft) error { return d.Link("x", "y") })
	commit(t, p, "b", file("x2", "1"))
	s := stack(t, p, "a", "b")
	id := func(name string) [3]uint64 {
		e, err := s.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		return [3]uint64{e.Dev, e.Ino, e.Nlink}
	}
	if id("x") != id("y") || id("x")[2] != 2 {
		t.Errorf("x is %v, y %v", id("x"), id("y"))
	}
	if id("x") == id("x2") || id("x2")[2] != 1 {
		t.Errorf("x is %v, x2 %v", id("x"), id("x2"))
	}
}

func TestManyLayers(t *testing.T) {
	const n = 500
	p := open(t, t.TempDir())
	var ids []snapshot.ID
	for i := range n {
		id := snapshot.ID(fmt.Sprint("l", i))
		ids = append(ids, id)
		commit(t, p, id, file(fmt.Sprintf("d/%03d", i), fmt.Sprint(i)), file("same", fmt.Sprint(i)), whiteout(fmt.Sprintf("d/%03d", i-1)))
	}
	s := stack(t, p, ids...)
	want := []string{"d/ 755", `d/499 "499"`, `same "499"`}
	if diff := cmp.Diff(want, show(t, s)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	wantMissing(t, s, "d/000")
}

// A stack says the same in whatever order it is asked, by whoever.
func TestStackConcurrent(t *testing.T) {
	p := open(t, t.TempDir())
	var lower, upper []step
	for i := range 20 {
		lower = append(lower, mkdir(fmt.Sprintf("a/b%d", i), 0o700), file(fmt.Sprintf("a/b%d/c", i), "1"))
		upper = append(upper, file(fmt.Sprintf("a/b%d/d", i), "2"))
	}
	commit(t, p, "l", lower...)
	commit(t, p, "u", upper...)
	want := show(t, stack(t, p, "l", "u"))
	s := stack(t, p, "l", "u")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				if _, err := s.Lstat(fmt.Sprintf("a/b%d/c", (i+j)%20)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, show(t, s)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestDir(t *testing.T) {
	p := open(t, t.TempDir())
	l := commit(t, p, "a",
		file("b/z", ""), whiteout("b/y"), file("b/a", ""), whiteout("c"), mkdir("a", 0o700), opaque("a"), file("a/x", "x"), whiteout("z"), file("0", ""))
	var got []string
	err := l.Walk(func(name string, it layer.Item) error {
		if path.Base(name) != it.Name {
			t.Errorf("%s is called %s", name, it.Name)
		}
		for flag, set := range map[string]bool{" whiteout": it.Whiteout, " opaque": it.Opaque, " implied": it.Implied} {
			if set {
				name += flag
			}
		}
		got = append(got, name)
		return nil
	})
	want := []string{". implied", "c whiteout", "z whiteout", "0", "a opaque", "a/x", "b implied", "b/y whiteout", "b/a", "b/z"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("walk: %v (-want +got):\n%s", err, diff)
	}
	stop := errors.New("stop")
	if err := l.Walk(func(name string, _ layer.Item) error {
		if name == "a" {
			return stop
		}
		return nil
	}); err != stop {
		t.Errorf("walk that is stopped: %v", err)
	}
	if it, err := l.Lstat("c"); err != nil || !it.Whiteout || it.Name != "c" {
		t.Errorf("Lstat of a whiteout: %+v, %v", it, err)
	}
	if _, err := l.OpenFile("c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFile of a whiteout: %v", err)
	}
	items, err := l.ReadDir("b")
	if err != nil || len(items) != 3 || items[0].Name != "a" || !items[1].Whiteout {
		t.Errorf("ReadDir: %+v, %v", items, err)
	}
	names, err := l.Implied()
	if err != nil || !slices.Equal(names, []string{".", "b"}) {
		t.Errorf("Implied: %q, %v", names, err)
	}
}
