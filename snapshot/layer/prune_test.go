package layer_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func TestPrune(t *testing.T) {
	tmp := t.TempDir()
	pool, err := layer.OpenPool(tmp+"/layers", func() (string, error) { return tmp, nil })
	if err != nil {
		t.Fatal(err)
	}
	then := time.Unix(1_000_000_000, 5)
	file := snapshot.Entry{Mode: 0o644, ModTime: then}
	dir := snapshot.Entry{Mode: 0o755, ModTime: then}
	touched := snapshot.Entry{Mode: 0o755, ModTime: then.Add(time.Hour)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(d *layer.Draft, name, content string, e snapshot.Entry) {
		t.Helper()
		must(d.File(name, e, strings.NewReader(content)))
	}

	base, err := pool.Draft()
	must(err)
	defer base.Close()
	for _, name := range []string{"same", "same/d", "touched", "chmod", "kept", "hides"} {
		must(base.Mkdir(name, dir))
	}
	for _, name := range []string{"same/d/f", "kept/same", "kept/content", "kept/time", "kept/mode", "hides/f"} {
		put(base, name, "text", file)
	}
	must(base.Symlink("kept/link", snapshot.Entry{Link: "x", ModTime: then}))
	must(base.Symlink("kept/relinked", snapshot.Entry{Link: "x", ModTime: then}))
	must(base.Commit("base"))
	below, err := pool.Stack([]snapshot.ID{"base"})
	must(err)

	d, err := pool.Draft()
	must(err)
	defer d.Close()
	for _, name := range []string{"same", "same/d", "kept", "new", "hides"} {
		must(d.Mkdir(name, dir))
	}
	must(d.Mkdir("touched", touched))
	must(d.Mkdir("chmod", snapshot.Entry{Mode: 0o700, ModTime: then}))
	put(d, "same/d/f", "text", file)
	put(d, "kept/same", "text", file)
	put(d, "kept/content", "TEXT", file)
	put(d, "kept/time", "text", snapshot.Entry{Mode: 0o644, ModTime: then.Add(1)})
	put(d, "kept/mode", "text", snapshot.Entry{Mode: 0o600, ModTime: then})
	put(d, "hides/f", "text", file)
	must(d.Opaque("hides"))
	must(d.Symlink("kept/link", snapshot.Entry{Link: "x", ModTime: then}))
	must(d.Symlink("kept/relinked", snapshot.Entry{Link: "y", ModTime: then}))
	must(d.Prune(below))
	must(d.Commit("change"))

	change, err := pool.Open("change")
	must(err)
	var got []string
	must(change.Walk(func(name string, _ layer.Item) error {
		got = append(got, name)
		return nil
	}))
	want := []string{".", "chmod", "hides", "hides/f", "kept", "kept/content", "kept/mode", "kept/relinked", "kept/time", "new"}
	if !slices.Equal(got, want) {
		t.Errorf("left are\n%q\nand not\n%q", got, want)
	}
}
