// Package snapshottest is the suite that every snapshot driver passes. A
// driver's test is a few lines:
//
//	func TestDriver(t *testing.T) {
//		snapshottest.Run(t, func(pool *layer.Pool, tmp func() (string, error)) (snapshot.Driver, error) {
//			return native.New(pool, tmp), nil
//		})
//	}
//
// After each test the suite compares what the kernel shows of a stack with what
// package layer reads from it, and a layer with the tar made of it.
package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/mount"
)

// Open makes the driver under test. The error says why it does not work on this
// machine.
type Open func(pool *layer.Pool, tmp func() (string, error)) (snapshot.Driver, error)

// Run tests the driver that open makes. It needs root.
func Run(t *testing.T, open Open) {
	for _, group := range [][]test{changes, attributes, targets, stacks, lives} {
		for _, tc := range group {
			t.Run(tc.name, func(t *testing.T) { tc.run(newHarness(t, open)) })
		}
	}
}

// test is one test of the suite.
type test struct {
	name string
	run  func(h *harness)
}

// harness is a driver over an empty pool.
type harness struct {
	testing.TB
	driver snapshot.Driver
	pool   *layer.Pool
	tmp    string
	made   int // layers, to name them
}

func newHarness(t testing.TB, open Open) *harness {
	if err := mount.Private(func() error { return nil }); err != nil {
		t.Skip("mounting needs privileges: ", err)
	}
	dir := t.TempDir()
	h := &harness{TB: t, tmp: filepath.Join(dir, "tmp")}
	tmp := func() (string, error) { return h.tmp, os.MkdirAll(h.tmp, 0o700) }
	var err error
	if h.pool, err = layer.OpenPool(filepath.Join(dir, "layers"), tmp); err != nil {
		t.Fatal(err)
	}
	if h.driver, err = open(h.pool, tmp); err != nil {
		t.Skip("the driver does not work here: ", err)
	}
	return h
}

// stack is layers, lowest first.
type stack = []snapshot.ID

func (h *harness) id() snapshot.ID {
	h.made++
	return snapshot.ID(fmt.Sprintf("layer-%d", h.made))
}

// must ends the test if err is not nil.
func (h *harness) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// base adds to s a layer that write makes without the driver.
func (h *harness) base(s stack, write func(d *layer.Draft) error) stack {
	h.Helper()
	d, err := h.pool.Draft()
	h.must(err)
	defer d.Close()
	id := h.id()
	h.must(write(d))
	h.must(d.Commit(id))
	return append(slices.Clone(s), id)
}

// run adds to s a layer with what change does to the root. The stack is checked then.
func (h *harness) run(s stack, change func(root string) error, targets ...snapshot.Target) stack {
	h.Helper()
	tx, err := h.driver.Begin(h.Context(), s, targets)
	h.must(err)
	defer tx.Close()
	h.must(h.inside(tx.Mounts(), change))
	id := h.id()
	h.must(tx.Commit(h.Context(), id))
	h.must(tx.Close())
	s = append(slices.Clone(s), id)
	h.check(s)
	return s
}

// inside calls use with the directory that mounts make.
func (h *harness) inside(mounts []snapshot.Mount, use func(root string) error) error {
	root := h.TempDir()
	return mount.Private(func() error {
		if err := mount.Do(root, mounts); err != nil {
			return err
		}
		return errors.Join(use(root), mount.Undo(root))
	})
}

// view calls use with a read-only root over s.
func (h *harness) view(s stack, use func(root string) error) {
	h.Helper()
	v, err := h.driver.View(h.Context(), s)
	h.must(err)
	h.must(errors.Join(h.inside(v.Mounts(), use), v.Close()))
}

// check compares what the kernel shows of s with what package layer reads of it.
func (h *harness) check(s stack) {
	h.Helper()
	tree, err := h.pool.Stack(s)
	h.must(err)
	want, err := describe(tree)
	h.must(err)
	h.view(s, func(root string) error {
		got, err := describe(disk(root))
		if diff := cmp.Diff(want, got); diff != "" {
			h.Errorf("the view of %v (-read from layers +shown by the kernel):\n%s", s, diff)
		}
		return err
	})
	h.checkTar(s)
}

// holds compares the uppermost layer of s with the lines want: a mark and a
// name, in the order of names, without the root. The marks are "-" for a file,
// "/" for a directory, "!" for an opaque one, "@" for a symbolic link, "x" for a
// whiteout and "?" for anything else.
func (h *harness) holds(s stack, want ...string) {
	h.Helper()
	d, err := h.pool.Open(s[len(s)-1])
	h.must(err)
	var got []string
	h.must(d.Walk(func(name string, it layer.Item) error {
		if name != "." {
			got = append(got, mark(it)+" "+name)
		}
		return nil
	}))
	slices.SortFunc(got, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("the layer (-want +got):\n%s", diff)
	}
}

// implies checks which directories the uppermost layer implies.
func (h *harness) implies(s stack, want ...string) {
	h.Helper()
	d, err := h.pool.Open(s[len(s)-1])
	h.must(err)
	got, err := d.Implied()
	h.must(err)
	if !slices.Equal(got, want) {
		h.Errorf("the layer implies %q, want %q", got, want)
	}
}

func mark(it layer.Item) string {
	switch {
	case it.Whiteout:
		return "x"
	case it.Opaque:
		return "!"
	case it.Kind == snapshot.Dir:
		return "/"
	case it.Kind == snapshot.File:
		return "-"
	case it.Kind == snapshot.Symlink:
		return "@"
	}
	return "?"
}

// shows compares everything in the stack with names, in their order.
func (h *harness) shows(s stack, names ...string) {
	h.Helper()
	tree, err := h.pool.Stack(s)
	h.must(err)
	var got []string
	h.must(walk(tree, ".", func(name string, _ snapshot.Entry) error {
		got = append(got, name)
		return nil
	}))
	slices.Sort(got)
	if diff := cmp.Diff(names, got); diff != "" {
		h.Errorf("the stack (-want +got):\n%s", diff)
	}
}

// lstat describes a file of the stack.
func (h *harness) lstat(s stack, name string) snapshot.Entry {
	h.Helper()
	tree, err := h.pool.Stack(s)
	h.must(err)
	e, err := tree.Lstat(name)
	h.must(err)
	return e
}

// leftovers fails the test if something is left beside the published layers.
func (h *harness) leftovers() {
	h.Helper()
	left, err := filepath.Glob(filepath.Join(h.tmp, "*"))
	h.must(err)
	if len(left) > 0 {
		h.Errorf("left behind: %v", left)
	}
}
