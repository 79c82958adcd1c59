package overlay_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/mount"
	"lamina/snapshot/overlay"
)

// newDriver returns a driver over an empty pool, the pool and its directory.
func newDriver(t *testing.T) (*overlay.Driver, *layer.Pool, string) {
	t.Helper()
	dir := t.TempDir()
	tmp := func() (string, error) { return dir + "/tmp", os.MkdirAll(dir+"/tmp", 0o700) }
	pool, err := layer.OpenPool(dir+"/layers", tmp)
	if err != nil {
		t.Fatal(err)
	}
	d, err := overlay.New(pool, tmp)
	if err != nil {
		t.Skip(err)
	}
	return d, pool, dir + "/layers"
}

func publish(t *testing.T, pool *layer.Pool, id snapshot.ID, write func(d *layer.Draft) error) {
	t.Helper()
	d, err := pool.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := errors.Join(write(d), d.Commit(id)); err != nil {
		t.Fatal(err)
	}
}

// Each of these options would make the upper directory less than the difference.
func TestOptions(t *testing.T) {
	d, _, _ := newDriver(t)
	tx, err := d.Begin(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	view, err := d.View(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for _, mounts := range [][]snapshot.Mount{tx.Mounts(), view.Mounts()} {
		for _, option := range []string{"redirect_dir=off", "metacopy=off", "index=off"} {
			if !slices.Contains(mounts[0].Options, option) {
				t.Errorf("%s is missing in %v", option, mounts[0].Options)
			}
		}
	}
}

func TestLayersWithSidecarsAreRefused(t *testing.T) {
	d, pool, dir := newDriver(t)
	publish(t, pool, "plain", func(d *layer.Draft) error { return d.Mkdir("d", snapshot.Entry{Mode: 0o755}) })
	publish(t, pool, "foreign", func(d *layer.Draft) error { return d.Mkdir("d", snapshot.Entry{Mode: 0o755}) })
	// What Draft writes for an ordinary user, whose layer this is.
	record := `{"name":"d","owner":[33,33]}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "foreign", "attrs"), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, begin := range map[string]func(stack ...snapshot.ID) error{
		"begin": func(stack ...snapshot.ID) error { _, err := d.Begin(t.Context(), stack, nil); return err },
		"view":  func(stack ...snapshot.ID) error { _, err := d.View(t.Context(), stack); return err },
	} {
		err := begin("plain", "foreign")
		if !errors.Is(err, overlay.ErrSidecar) {
			t.Errorf("%s: %v, want %v", what, err, overlay.ErrSidecar)
			continue
		}
		want := what + " snapshot: layer foreign: the layer was unpacked without the privileges that " +
			"its owners, devices or attributes need; remove it and have it unpacked again as root"
		if err.Error() != want {
			t.Errorf("%s: %q, want %q", what, err, want)
		}
	}
}

// A directory may have attributes that no disk holds, such as those of another
// system. They must not be in the way of a patch.
func TestAttributesThatNoDiskHolds(t *testing.T) {
	d, pool, _ := newDriver(t)
	publish(t, pool, "foreign", func(d *layer.Draft) error {
		e := snapshot.Entry{Mode: 0o755}
		return errors.Join(d.Mkdir("d", e), d.SetAttrs("d", e, map[string]string{"com.apple.provenance": "x"}))
	})
	tx, err := d.Begin(t.Context(), []snapshot.ID{"foreign"}, []snapshot.Target{{Path: "/d/target", Dir: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Close(); err != nil {
		t.Error(err)
	}
}

// Folding is done once: a stack that grows uses what was folded before.
func TestFoldIsRemembered(t *testing.T) {
	d, pool, _ := newDriver(t)
	var stack []snapshot.ID
	folded := func(n int) []snapshot.ID {
		t.Helper()
		for len(stack) < n {
			id := snapshot.ID(fmt.Sprintf("layer-%d", len(stack)))
			publish(t, pool, id, func(d *layer.Draft) error { return d.Mkdir(string(id), snapshot.Entry{Mode: 0o755}) })
			stack = append(stack, id)
		}
		v, err := d.View(t.Context(), stack)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if lowers := len(v.Mounts()[0].Options); lowers > 499 {
			t.Errorf("%d layers become a mount of %d options", n, lowers)
		}
		ids, err := pool.List()
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(ids, func(id snapshot.ID) bool { return !strings.HasPrefix(string(id), "fold-") })
	}
	for _, tc := range []struct{ layers, folds int }{{480, 0}, {481, 1}, {511, 1}, {512, 2}} {
		if got := folded(tc.layers); len(got) != tc.folds {
			t.Errorf("%d layers leave the folds %v, want %d", tc.layers, got, tc.folds)
		}
	}
}

// The kernel lists whiteouts as files in a directory that it thinks needs no
// merging. A fold must not be one.
func TestFoldHidesWhiteouts(t *testing.T) {
	d, pool, _ := newDriver(t)
	var stack []snapshot.ID
	for i := range 481 {
		id := snapshot.ID(fmt.Sprintf("layer-%d", i))
		publish(t, pool, id, func(d *layer.Draft) error {
			if i == 1 {
				return errors.Join(d.Mkdir("d/e", snapshot.Entry{Mode: 0o755}), d.Whiteout("d/f"))
			}
			return d.File("other", snapshot.Entry{Mode: 0o644}, strings.NewReader("x"))
		})
		stack = append(stack, id)
	}
	v, err := d.View(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	root := t.TempDir()
	err = mount.Private(func() error {
		if err := mount.Do(root, v.Mounts()); err != nil {
			return err
		}
		entries, err := os.ReadDir(root + "/d")
		if len(entries) != 1 {
			t.Errorf("the directory holds %v, want e", entries)
		}
		return errors.Join(err, mount.Undo(root))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSupportedSaysWhyNot(t *testing.T) {
	if err := overlay.Supported(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Supported: %v, want %v", err, unix.ENOENT)
	}
	_, _, dir := newDriver(t)
	root, nested, nestedDir := t.TempDir(), "", ""
	upper := filepath.Join(dir, "upper")
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := mount.Private(func() error {
		m := snapshot.Mount{Type: "overlay", Target: "/", Options: []string{
			"lowerdir+=" + dir + "/lower", "upperdir=" + upper, "workdir=" + dir + "/work"}}
		if err := mount.Do(root, []snapshot.Mount{m}); err != nil {
			return err
		}
		// Supported looks from a thread of its own, whose namespace is that of
		// the process; so it gets at this mount by its descriptor.
		f, err := os.Open(root)
		if err != nil {
			return err
		}
		nestedDir = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		nested = fmt.Sprint(overlay.Supported(nestedDir))
		return errors.Join(f.Close(), mount.Undo(root))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "overlay: " + nestedDir + " is on an overlay itself, as everything in a container is that is not in a volume"
	if nested != want {
		t.Errorf("an overlay on an overlay: %q, want %q", nested, want)
	}
}
