package layer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func TestPool(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	if _, err := p.Open("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: got error %v, want fs.ErrNotExist", err)
	}
	if _, err := p.Stack([]snapshot.ID{"a"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stack: got error %v, want fs.ErrNotExist", err)
	}
	if err := p.SetInfo("a", layer.Info{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SetInfo: got error %v, want fs.ErrNotExist", err)
	}
	if err := p.Remove("a"); err != nil {
		t.Errorf("Remove: %v", err)
	}
	commit(t, p, "b", file("x", "b"))
	a := commit(t, p, "a", file("x", "a"))
	if a.ID() != "a" || a.Path() != filepath.Join(root, "layers/a/fs") {
		t.Errorf("layer a is %s in %s", a.ID(), a.Path())
	}
	ids, err := open(t, root).List()
	if err != nil || !slices.Equal(ids, []snapshot.ID{"a", "b"}) {
		t.Errorf("List: got %v, %v", ids, err)
	}
	if err := p.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Remove: got error %v, want fs.ErrNotExist", err)
	}
	wantEmpty(t, filepath.Join(root, "tmp"))
}

func TestPoolIsPrivate(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	fi, err := os.Stat(filepath.Join(root, "layers"))
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the pool's mode is %v, %v, want 0700: there are set-user-ID programs in it", fi.Mode(), err)
	}
}

func TestInvalidID(t *testing.T) {
	p := open(t, t.TempDir())
	for _, id := range []snapshot.ID{"", ".", "..", ".hidden", "a/b", "../a", "a\x00", snapshot.ID(strings.Repeat("x", 256))} {
		_, openErr := p.Open(id)
		d := draft(t, p)
		for op, err := range map[string]error{
			"Open": openErr, "Commit": d.Commit(id), "Remove": p.Remove(id), "SetInfo": p.SetInfo(id, layer.Info{}),
			"Adopt": p.Adopt(t.TempDir(), id),
		} {
			if err == nil || !strings.Contains(err.Error(), "invalid layer id") {
				t.Errorf("%s(%q): got error %v", op, id, err)
			}
		}
	}
}

func TestInfo(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	l := commit(t, p, "a")
	if info, err := l.Info(); err != nil || !cmp.Equal(info, layer.Info{}) {
		t.Errorf("nothing is known: got %+v, %v", info, err)
	}
	sum := digest.FromString("tar")
	want := layer.Info{
		DiffID: sum, Size: 7, Created: now,
		Packed: map[string]layer.Packed{"gzip-5": {DiffID: sum, Blob: ocispec.Descriptor{Digest: digest.FromString("gz"), Size: 3}}},
	}
	if err := p.SetInfo("a", want); err != nil {
		t.Fatal(err)
	}
	got, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	file := filepath.Join(root, "layers/a/info.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		torn, changed := bytes.Clone(data[:i]), bytes.Clone(data)
		changed[i]++ // other digits, too
		for _, damaged := range [][]byte{torn, changed} {
			if err := os.WriteFile(file, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if info, err := l.Info(); err != nil || !cmp.Equal(info, layer.Info{}) && !cmp.Equal(info, want) {
				t.Errorf("%q: got %+v, %v", damaged, info, err)
			}
		}
	}
}

func TestFind(t *testing.T) {
	p := open(t, t.TempDir())
	sum := digest.FromString("tar")
	wantFind := func(want snapshot.ID) {
		t.Helper()
		got, err := p.Find(sum)
		if want == "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Find: got %q, %v, want fs.ErrNotExist", got, err)
		}
		if want != "" && (err != nil || got != want) {
			t.Errorf("Find: got %q, %v, want %q", got, err, want)
		}
	}
	know := func(id snapshot.ID) {
		t.Helper()
		if err := p.SetInfo(id, layer.Info{DiffID: sum}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Find("../../etc"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Find of no digest: got error %v", err)
	}
	wantFind("")
	commit(t, p, "a")
	wantFind("")
	know("a")
	wantFind("a")
	if ids, err := p.List(); err != nil || len(ids) != 1 {
		t.Errorf("List shows aliases: %v, %v", ids, err)
	}
	if _, err := p.Open(layer.DiffIDName(sum)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an alias: got error %v, want fs.ErrNotExist", err)
	}
	commit(t, p, "b")
	know("b") // the same content by another name: the first stays
	wantFind("a")
	if err := p.Remove("a"); err != nil {
		t.Fatal(err)
	}
	wantFind("")
	know("b")
	wantFind("b")
	// The layer itself, from an image, takes the place of the alias.
	commit(t, p, layer.DiffIDName(sum))
	wantFind("sha256-" + snapshot.ID(sum.Encoded()))
	know(layer.DiffIDName(sum))
	wantFind("sha256-" + snapshot.ID(sum.Encoded()))
}

// Aliases of layers that another process removed are replaced.
func TestFindDangling(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	sum := digest.FromString("tar")
	commit(t, p, "a")
	if err := p.SetInfo("a", layer.Info{DiffID: sum}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "layers/a")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Find(sum); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want fs.ErrNotExist", err)
	}
	commit(t, p, "b")
	if err := p.SetInfo("b", layer.Info{DiffID: sum}); err != nil {
		t.Fatal(err)
	}
	if id, err := p.Find(sum); err != nil || id != "b" {
		t.Errorf("got %q, %v, want b", id, err)
	}
}

// What was published twice is there once, and the first stays.
func TestPublishTwice(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	commit(t, p, "a", file("x", "first"))
	s := stack(t, p, "a")
	commit(t, p, "a", file("x", "second"))
	if got := read(t, s, "x"); got != "first" {
		t.Errorf("the layer changed: %q", got)
	}
	wantEmpty(t, filepath.Join(root, "tmp"))
}

func TestConcurrentPublish(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		p := open(t, root) // each as if in a process of its own
		wg.Go(func() {
			for i := range 5 {
				id := snapshot.ID(fmt.Sprint("l", i))
				d, err := p.Draft()
				if err != nil {
					t.Error(err)
					return
				}
				for j := range 10 {
					if err := d.File(fmt.Sprint("d/", j), mode(0o600), strings.NewReader("x")); err != nil {
						t.Error(err)
					}
				}
				if err := d.Commit(id); err != nil {
					t.Error(err)
				}
				if err := p.SetInfo(id, layer.Info{DiffID: digest.FromString(string(id))}); err != nil {
					t.Error(err)
				}
				if got, err := p.Find(digest.FromString(string(id))); err != nil || got != id {
					t.Errorf("Find: %q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	p := open(t, root)
	for i := range 5 {
		if n := len(show(t, stack(t, p, snapshot.ID(fmt.Sprint("l", i))))); n != 11 {
			t.Errorf("layer %d has %d entries, want 11", i, n)
		}
	}
	wantEmpty(t, filepath.Join(root, "tmp"))
}

func TestSync(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	mark := filepath.Join(root, "layers/a/unsynced")
	commit(t, p, "a", file("x", ""))
	if _, err := os.Stat(mark); err != nil {
		t.Fatalf("a new layer has no mark: %v", err)
	}
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the mark is still there: %v", err)
	}
	if _, err := p.Open("a"); err != nil {
		t.Errorf("after Sync: %v", err)
	}
	// Another process syncs what this one, now dead, did not.
	commit(t, p, "b")
	q := open(t, root)
	if _, err := q.Open("b"); err != nil {
		t.Fatal(err)
	}
	if err := q.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "layers/b/unsynced")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark is still there: %v", err)
	}
	// Removed before Sync.
	commit(t, p, "c")
	if err := os.RemoveAll(filepath.Join(root, "layers/c")); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(); err != nil {
		t.Errorf("Sync of a removed layer: %v", err)
	}
}

// A layer that was not synced before the machine stopped is gone.
func TestPowerFailure(t *testing.T) {
	for name, mark := range map[string]string{"another boot": "0d9ab7c2-ffff-4a4f-8b6e-000000000000\n", "torn mark": ""} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			p := open(t, root)
			for _, id := range []snapshot.ID{"a", "b"} {
				commit(t, p, id, file("x", "before"))
				if err := os.WriteFile(filepath.Join(root, "layers", string(id), "unsynced"), []byte(mark), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p = open(t, root)
			if _, err := p.Open("a"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got error %v, want fs.ErrNotExist", err)
			}
			if _, err := os.Stat(filepath.Join(root, "layers/a")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the layer is still there: %v", err)
			}
			commit(t, p, "b", file("x", "after")) // takes the place of the damaged one
			if got := read(t, stack(t, p, "b"), "x"); got != "after" {
				t.Errorf("got the damaged layer's file, %q", got)
			}
			wantEmpty(t, filepath.Join(root, "tmp"))
		})
	}
}

func TestAdopt(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	upper := filepath.Join(t.TempDir(), "upper")
	make := func() {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(upper, "d/e"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(upper, "d/f"), []byte("f"), 0o644); err != nil {
			t.Fatal(err)
		}
		for dir, mode := range map[string]os.FileMode{"d/e": 0o755, "d": 0o755, ".": 0o555} {
			if err := os.Chmod(filepath.Join(upper, dir), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	make()
	if err := p.Adopt(upper, "a", "d", "."); err != nil {
		t.Fatal(err)
	}
	l, err := p.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	names, err := l.Implied()
	if err != nil || !slices.Equal(names, []string{".", "d"}) {
		t.Errorf("implied: %q, %v", names, err)
	}
	if got, want := show(t, stack(t, p, "a")), []string{"d/ 755", "d/e/ 755", `d/f "f"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if fi, err := os.Stat(l.Path()); err != nil || fi.Mode().Perm() != 0o555 {
		t.Errorf("the root's mode is %v, %v", fi.Mode(), err)
	}
	make()
	if err := p.Adopt(upper, "a"); err != nil {
		t.Errorf("published already: %v", err)
	}
	if _, err := os.Stat(upper); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := p.Adopt(upper, "b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing to adopt: got error %v, want fs.ErrNotExist", err)
	}
	if _, err := p.Open("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer was published: %v", err)
	}
	if err := p.Remove("a"); err != nil { // with the modes that t.TempDir cannot cope with
		t.Error(err)
	}
	wantEmpty(t, filepath.Join(root, "tmp"))
}

// A layer whose directories forbid everything can still be removed.
func TestRemoveForbidding(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	upper := filepath.Join(t.TempDir(), "upper")
	deep := filepath.Join(upper, "a/b/c")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := deep; dir != filepath.Dir(upper); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Adopt(upper, "a"); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove("a"); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, filepath.Join(root, "tmp"))
	wantEmpty(t, filepath.Join(root, "layers"))
}

func stack(t testing.TB, p *layer.Pool, ids ...snapshot.ID) *layer.Stack {
	t.Helper()
	s, err := p.Stack(ids)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPublishOverRest publishes a layer whose files somebody removed.
func TestPublishOverRest(t *testing.T) {
	p := open(t, t.TempDir())
	d := commit(t, p, "l", file("a", "old"))
	if err := os.RemoveAll(d.Path()); err != nil {
		t.Fatal(err)
	}
	d = commit(t, p, "l", file("a", "new"))
	f, err := d.OpenFile("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
}
