package layer_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

var now = time.Unix(1700000000, 123456789).UTC()

// open returns the pool in root/layers, with root/tmp for temporary things.
func open(t testing.TB, root string) *layer.Pool {
	t.Helper()
	tmp := filepath.Join(root, "tmp")
	p, err := layer.OpenPool(filepath.Join(root, "layers"), func() (string, error) { return tmp, os.MkdirAll(tmp, 0o700) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func draft(t testing.TB, p *layer.Pool) *layer.Draft {
	t.Helper()
	d, err := p.Draft()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// commit makes layer id by the given steps.
func commit(t testing.TB, p *layer.Pool, id snapshot.ID, steps ...func(*layer.Draft) error) *layer.Dir {
	t.Helper()
	d := draft(t, p)
	for i, step := range steps {
		if err := step(d); err != nil {
			t.Fatalf("layer %s, step %d: %v", id, i, err)
		}
	}
	if err := d.Commit(id); err != nil {
		t.Fatal(err)
	}
	l, err := p.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	same(t, l)
	return l
}

// same checks that the layer's list says of its files what they are.
func same(t testing.TB, d *layer.Dir) {
	t.Helper()
	err := d.Compare(t.Context(), func(diff layer.Difference) error {
		t.Errorf("layer %s: %v", d.ID(), diff)
		return nil
	})
	if err != nil {
		t.Errorf("layer %s: %v", d.ID(), err)
	}
}

type step = func(*layer.Draft) error

// mode is an entry that belongs to 0:0.
func mode(m uint32) snapshot.Entry { return snapshot.Entry{Mode: m, ModTime: now} }

func mkdir(name string, m uint32) step {
	return func(d *layer.Draft) error { return d.Mkdir(name, mode(m)) }
}

func file(name, data string) step {
	return func(d *layer.Draft) error { return d.File(name, mode(0o644), strings.NewReader(data)) }
}

func symlink(name, target string) step {
	return func(d *layer.Draft) error { return d.Symlink(name, snapshot.Entry{Link: target, ModTime: now}) }
}

func whiteout(name string) step { return func(d *layer.Draft) error { return d.Whiteout(name) } }
func opaque(name string) step   { return func(d *layer.Draft) error { return d.Opaque(name) } }
func implied(name string) step  { return func(d *layer.Draft) error { return d.Implied(name) } }

// show describes a tree, one line an entry, without its root.
func show(t testing.TB, tree snapshot.Tree) []string {
	t.Helper()
	return showIn(t, tree, ".")
}

func showIn(t testing.TB, tree snapshot.Tree, dir string) []string {
	t.Helper()
	entries, err := tree.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name)
		again, err := tree.Lstat(name)
		if err != nil {
			t.Fatalf("ReadDir lists what Lstat lacks: %v", err)
		}
		if again != e {
			t.Errorf("%s: ReadDir says\n%+v, Lstat\n%+v", name, e, again)
		}
		switch e.Kind {
		case snapshot.Dir:
			lines = append(lines, fmt.Sprintf("%s/ %o", name, e.Mode))
			lines = append(lines, showIn(t, tree, name)...)
		case snapshot.Symlink:
			lines = append(lines, fmt.Sprintf("%s -> %s", name, e.Link))
		case snapshot.File:
			lines = append(lines, fmt.Sprintf("%s %q", name, read(t, tree, name)))
		default:
			lines = append(lines, fmt.Sprintf("%s kind %d %d:%d", name, e.Kind, e.Major, e.Minor))
		}
	}
	return lines
}

func read(t testing.TB, tree snapshot.Tree, name string) string {
	t.Helper()
	f, err := tree.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantMissing checks that the tree does not have name, by any method.
func wantMissing(t testing.TB, tree snapshot.Tree, name string) {
	t.Helper()
	_, lstat := tree.Lstat(name)
	_, readdir := tree.ReadDir(name)
	_, open := tree.Open(name)
	_, xattrs := tree.Xattrs(name)
	for method, err := range map[string]error{"Lstat": lstat, "ReadDir": readdir, "Open": open, "Xattrs": xattrs} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s(%q): got error %v, want fs.ErrNotExist", method, name, err)
		}
	}
}

// wantEmpty checks that nothing is left in the directory dir.
func wantEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left in %s", e.Name(), dir)
	}
}
