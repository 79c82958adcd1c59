package layer_test

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func inventory(t testing.TB, p *layer.Pool, id snapshot.ID, digests bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteInventory(t.Context(), id, digests, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func loadList(t testing.TB, data []byte) *layer.List {
	t.Helper()
	l, err := layer.LoadList(data)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sameByLists checks that lists of layers show what the layers do, but contents.
func sameByLists(t testing.TB, p *layer.Pool, ids []snapshot.ID, s *layer.Stack) {
	t.Helper()
	var parts []layer.Part
	for _, id := range ids {
		parts = append(parts, loadList(t, inventory(t, p, id, true)))
	}
	lists := layer.NewStack(parts)
	var visit func(dir string)
	visit = func(dir string) {
		want, err := s.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lists.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i].ModTime, want[i].ChangeTime, want[i].Dev, want[i].Ino, want[i].Nlink = got[i].ModTime, got[i].ChangeTime, got[i].Dev, got[i].Ino, got[i].Nlink
			if want[i].Kind != snapshot.File {
				want[i].Size = 0 // means nothing
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s by lists (-want +got):\n%s", dir, diff)
		}
		for _, e := range want {
			name := path.Join(dir, e.Name)
			switch e.Kind {
			case snapshot.Dir:
				visit(name)
			case snapshot.File:
				d, err := lists.ContentDigest(name)
				if want := digest.FromString(read(t, s, name)); err != nil || d != want {
					t.Errorf("%s: %s, %v, want %s", name, d, err, want)
				}
				if _, err := lists.Open(name); !errors.Is(err, layer.ErrNoContent) {
					t.Errorf("it is opened: %v", err)
				}
			}
		}
	}
	visit(".")
	wantMissing(t, lists, "nobody/has/this")
}

// An inventory does not depend on times, but on everything that a COPY can tell.
func TestInventory(t *testing.T) {
	p := open(t, t.TempDir())
	base := []step{mkdir("d", 0o700), file("d/x", "1"), link("d/x", "d/y"), symlink("d/l", "x"), whiteout("w")}
	commit(t, p, "l", base...)
	data := inventory(t, p, "l", true)
	later := func(d *layer.Draft) error {
		e := mode(0o644)
		e.ModTime = now.Add(1)
		return d.SetAttrs("d/x", e, nil)
	}
	for name, tc := range map[string]struct {
		step step
		want string
	}{
		"nothing":     {func(*layer.Draft) error { return nil }, ""},
		"a time":      {later, ""},
		"content":     {file("d/x", "2"), "d/x: is not what the list says"},
		"a mode":      {mkdir("d", 0o711), "d: is not what the list says"},
		"a file more": {file("a", "1"), "a: is not in the list"},
		"a file less": {func(d *layer.Draft) error { return d.Remove("d/l") }, "d/l: is in the list alone"},
		"the last":    {file("z", ""), "z: is not in the list"},
		"opaque":      {opaque("d"), "d: is not what the list says"},
		"a name less": {func(d *layer.Draft) error { return d.Remove("d/y") }, "d/y: is in the list alone"},
		"an attribute": {func(d *layer.Draft) error {
			return d.SetAttrs("d/x", mode(0o644), map[string]string{"user.k": "v"})
		}, "d/x: is not what the list says"},
	} {
		id := snapshot.ID(strings.ReplaceAll(name, " ", "-"))
		commit(t, p, id, append(base[:len(base):len(base)], tc.step)...)
		err := p.CheckInventory(t.Context(), id, data)
		var damaged *layer.DamagedError
		if tc.want == "" && err != nil || tc.want != "" && (!errors.As(err, &damaged) || damaged.First.String() != tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if same := bytes.Equal(data, inventory(t, p, id, true)); same != (tc.want == "") {
			t.Errorf("%s: the inventories are the same: %v", name, same)
		}
	}
}

// Without digests an inventory tells names and attributes, and admits that it does not
// tell more.
func TestInventoryWithoutDigests(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "l", file("a", "1"), file("b", "2"))
	data := inventory(t, p, "l", false)
	if err := p.CheckInventory(t.Context(), "l", data); err != nil {
		t.Error(err)
	}
	s := layer.NewStack([]layer.Part{loadList(t, data)})
	if e, err := s.Lstat("a"); err != nil || e.Size != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if d, err := s.ContentDigest("a"); !errors.Is(err, layer.ErrNoContent) {
		t.Errorf("its digest is %q, %v", d, err)
	}
}

// Names of one file are one file in a list, too.
func TestInventoryLinks(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "l", file("a", "1"), link("a", "b"), file("c", "1"))
	l := loadList(t, inventory(t, p, "l", true))
	var all []layer.Item
	for _, name := range []string{"a", "b", "c"} {
		it, err := l.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, it)
	}
	if a, b := all[0], all[1]; a.Dev != b.Dev || a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 || b.Size != 1 {
		t.Errorf("%+v and %+v are two", a, b)
	}
	if c := all[2]; c.Nlink != 1 {
		t.Errorf("%+v has other names", c)
	}
}

// Inventories come from strangers.
func TestLoadListRefuses(t *testing.T) {
	list := func(items ...layer.Listed) []byte {
		var b bytes.Buffer
		w := layer.NewListWriter(&b)
		for _, l := range items {
			if err := w.Add(&l); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	root := layer.Listed{Path: ".", Item: layer.Item{Entry: snapshot.Entry{Name: ".", Kind: snapshot.Dir}}}
	many := []layer.Listed{root}
	for i := range 250_000 {
		many = append(many, layer.Listed{Path: fmt.Sprintf("%06d", i), Item: layer.Item{Whiteout: true}})
	}
	pack := func(b []byte) []byte {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return z.EncodeAll(b, nil)
	}
	good := pack(list(root))
	for name, data := range map[string][]byte{
		"nothing":            nil,
		"no list":            pack([]byte("hello")),
		"not compressed":     list(root),
		"truncated":          good[:len(good)-1],
		"a bomb":             pack(append(list(root), make([]byte, 65<<20)...)),
		"many items":         pack(list(many...)),
		"a name of nothing":  pack(list(root, layer.Listed{Path: "a", Same: "b"})),
		"a name of the root": pack(list(root, layer.Listed{Path: "a", Same: "."})),
	} {
		if _, err := layer.LoadList(data); !errors.Is(err, layer.ErrListDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := layer.LoadList(good); err != nil {
		t.Error(err)
	}
}
