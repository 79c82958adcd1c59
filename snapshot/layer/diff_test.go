package layer_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// TestDiff makes one layer of two. On the base it gives what they give, and it says
// nothing that the base says.
func TestDiff(t *testing.T) {
	p := open(t, t.TempDir())
	link := func(from, to string) step { return func(d *layer.Draft) error { return d.Link(from, to) } }
	commit(t, p, "base", mkdir("d", 0o755), file("d/same", "same"), file("d/gone", "x"), file("f", "old"),
		mkdir("replaced", 0o755), file("replaced/old", "x"), file("was-file", "x"), mkdir("was-dir", 0o755), mkdir("mode", 0o755))
	commit(t, p, "one", mkdir("d", 0o755), file("d/made", "1"), whiteout("d/gone"), file("f", "new"), whiteout("replaced"),
		whiteout("was-file"), whiteout("was-dir"), mkdir("temporary", 0o755), file("temporary/f", "x"),
		file("a", "linked"), link("a", "b"), symlink("l", "a"))
	commit(t, p, "two", whiteout("temporary"), mkdir("replaced", 0o755), opaque("replaced"), file("replaced/new", "x"),
		mkdir("was-file", 0o755), file("was-dir", "x"), mkdir("mode", 0o700), mkdir("empty", 0o755))
	base, err := p.Stack([]snapshot.ID{"base"})
	if err != nil {
		t.Fatal(err)
	}
	top, err := p.Stack([]snapshot.ID{"base", "one", "two"})
	if err != nil {
		t.Fatal(err)
	}
	merged := commit(t, p, "merged", func(d *layer.Draft) error { return layer.Diff(t.Context(), d, base, top) })
	again, err := p.Stack([]snapshot.ID{"base", "merged"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(show(t, top), show(t, again)); diff != "" {
		t.Error(diff)
	}
	var got []string
	if err := merged.Walk(func(name string, it layer.Item) error {
		switch {
		case it.Whiteout:
			got = append(got, "!"+name)
		case !it.Implied:
			got = append(got, name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"!d/gone", "!replaced/old", "a", "b", "d", "d/made", "empty", "f", "l", "mode", "replaced", "replaced/new", "was-dir", "was-file",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	a, err := again.Lstat("a")
	if err != nil || a.Nlink != 2 {
		t.Errorf("a has %d names (%v), want 2", a.Nlink, err)
	}
}

// TestDiffOfAll makes one layer of all, on nothing.
func TestDiffOfAll(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "base", mkdir(".", 0o711), file("gone", "x"), file("kept", "x"))
	commit(t, p, "one", whiteout("gone"), whiteout("never"))
	nothing, err := p.Stack(nil)
	if err != nil {
		t.Fatal(err)
	}
	top, err := p.Stack([]snapshot.ID{"base", "one"})
	if err != nil {
		t.Fatal(err)
	}
	merged := commit(t, p, "merged", func(d *layer.Draft) error { return layer.Diff(t.Context(), d, nothing, top) })
	items, err := merged.ReadDir(".")
	if err != nil || len(items) != 1 || items[0].Name != "kept" {
		t.Errorf("%+v, %v", items, err)
	}
	if root, err := merged.Lstat("."); err != nil || root.Mode != 0o711 {
		t.Errorf("root %+v, %v", root, err)
	}
}
