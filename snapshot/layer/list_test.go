package layer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// listOf reads the layer's list, one line an item.
func listOf(t testing.TB, d *layer.Dir) []string {
	t.Helper()
	f, err := d.OpenList()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return listLines(t, f)
}

func listLines(t testing.TB, r io.Reader) (lines []string) {
	t.Helper()
	for l, err := range layer.ReadList(r) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, listLine(l))
	}
	return lines
}

func listLine(l layer.Listed) string {
	var b strings.Builder
	b.WriteString(l.Path)
	switch {
	case l.Whiteout:
		b.WriteString(" whiteout")
	case l.Same != "":
		b.WriteString(" = " + l.Same)
	default:
		fmt.Fprintf(&b, " %d %04o %d:%d %d", l.Kind, l.Mode, l.UID, l.GID, l.ModTime.UnixNano())
	}
	switch {
	case l.Whiteout || l.Same != "":
	case l.Kind == snapshot.File:
		fmt.Fprintf(&b, " %d", l.Size)
	case l.Kind == snapshot.Symlink:
		b.WriteString(" -> " + l.Link)
	case l.Kind == snapshot.CharDevice || l.Kind == snapshot.BlockDevice:
		fmt.Fprintf(&b, " %d:%d", l.Major, l.Minor)
	}
	for _, mark := range []struct {
		set  bool
		text string
	}{{l.Opaque, " opaque"}, {l.Implied, " implied"}, {l.Digest != "", " digest"}, {l.HasCRC, " crc"}} {
		if mark.set {
			b.WriteString(mark.text)
		}
	}
	for k, v := range l.Xattrs {
		fmt.Fprintf(&b, " %s=%q", k, v)
	}
	return b.String()
}

// known is a reader that knows the digest of its content.
type known struct{ *strings.Reader }

func (k known) Digest() digest.Digest { return digest.FromString("known") }

func digested(name string) step {
	return func(d *layer.Draft) error { return d.File(name, mode(0o644), known{strings.NewReader("known")}) }
}

func TestList(t *testing.T) {
	user := snapshot.Entry{Mode: 0o4755, ModTime: now.Add(-1)}
	tests := []struct {
		name  string
		steps []step
		want  []string
	}{
		{"nothing", nil, []string{". 1 0755 0:0 0 implied"}},
		{"in order", []step{
			mkdir("bin", 0o755), digested("bin/a"), file("bin/b", "b"), link("bin/b", "bin/c"), symlink("bin/d", "/x"),
			whiteout("etc/old"), file("usr/lib/x", ""),
		}, []string{
			". 1 0755 0:0 0 implied",
			"bin 1 0755 0:0 1700000000123456789",
			"bin/a 0 0644 0:0 1700000000123456789 5 digest",
			"bin/b 0 0644 0:0 1700000000123456789 1 crc",
			"bin/c = bin/b",
			"bin/d 2 0777 0:0 1700000000123456789 -> /x",
			"etc 1 0755 0:0 0 implied",
			"etc/old whiteout",
			"usr 1 0755 0:0 0 implied",
			"usr/lib 1 0755 0:0 0 implied",
			"usr/lib/x 0 0644 0:0 1700000000123456789 0 crc",
		}},
		{"in no order", []step{
			digested("b"), file("c", "c"), file("a/x", "x"), link("c", "a/y"), link("b", "d"), mkdir("a", 0o700),
			whiteout("z"), file("a-b", "ab"), opaque("a"),
		}, []string{
			". 1 0755 0:0 0 implied",
			"z whiteout",
			"a 1 0700 0:0 1700000000123456789 opaque",
			"a/x 0 0644 0:0 1700000000123456789 1 crc",
			"a/y 0 0644 0:0 1700000000123456789 1 crc",
			"a-b 0 0644 0:0 1700000000123456789 2 crc",
			"b 0 0644 0:0 1700000000123456789 5 digest",
			"c = a/y",
			"d = b",
		}},
		{"changed", []step{
			file("a", "first"), file("a", "second one"), func(d *layer.Draft) error { return d.SetAttrs("a", user, nil) },
			file("b", "b"), func(d *layer.Draft) error { return d.Remove("b") }, file("c", "c"),
			func(d *layer.Draft) error { return d.SetAttrs("a", user, map[string]string{"user.k": "v"}) },
		}, []string{
			". 1 0755 0:0 0 implied",
			`a 0 4755 0:0 1700000000123456788 10 crc user.k="v"`,
			"c 0 0644 0:0 1700000000123456789 1 crc",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := commit(t, open(t, t.TempDir()), "l", test.steps...)
			if diff := cmp.Diff(test.want, listOf(t, d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func link(old, name string) step { return func(d *layer.Draft) error { return d.Link(old, name) } }

// many makes a layer whose list and journal do not fit one block, or memory.
func many(n int) step {
	return func(d *layer.Draft) error {
		for i := range n {
			name := fmt.Sprintf("d%02d/%s-%05d", i*50/n, strings.Repeat("name", 20), i)
			if err := d.File(name, mode(uint32(i)&0o777|0o400), strings.NewReader(name)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestListOfMany(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "ordered", many(6000))
	commit(t, p, "unordered", many(6000), file("a", "a"))
	for _, id := range []snapshot.ID{"ordered", "unordered"} {
		d, err := p.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		beside, err := os.ReadDir(filepath.Dir(d.Path()))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range beside {
			if e.Name() == "journal" {
				t.Errorf("%s: the journal was left there", id)
			}
		}
	}
}

// TestCompare damages a layer in all ways and sees what is said of it.
func TestCompare(t *testing.T) {
	tests := map[string]struct {
		damage func(dir string) error
		want   []string
	}{
		"nothing": {func(string) error { return nil }, nil},
		"content": {func(dir string) error { return overwrite(dir+"/etc/a", "A") }, []string{"etc/a: its content is another"}},
		"content that has a digest": {
			func(dir string) error { return overwrite(dir+"/etc/k", "knowN") }, []string{"etc/k: its content is another"},
		},
		"truncated": {func(dir string) error { return os.Truncate(dir+"/etc/b", 1) }, []string{"etc/b: its size is 1, not 2"}},
		"mode":      {func(dir string) error { return os.Chmod(dir+"/etc/b", 0o600) }, []string{"etc/b: its mode is 0600, not 0644"}},
		"time":      {func(dir string) error { return os.Chtimes(dir+"/etc/b", now, now.Add(1)) }, []string{"etc/b: its time is 2023-11-14 22:13:20.12345679 +0000 UTC, not 2023-11-14 22:13:20.123456789 +0000 UTC"}},
		"missing": {
			func(dir string) error { return keepTime(dir+"/etc", func() error { return os.Remove(dir + "/etc/a") }) },
			[]string{"etc/a: is missing"},
		},
		"all missing": {
			func(dir string) error { return keepTime(dir, func() error { return os.RemoveAll(dir + "/etc") }) },
			[]string{"etc: is missing", "etc/a: is missing", "etc/b: is missing", "etc/k: is missing", "etc/l: is missing", "etc/s: is missing"},
		},
		"more": {
			func(dir string) error {
				return keepTime(dir+"/etc", func() error { return os.WriteFile(dir+"/etc/0", nil, 0o644) })
			},
			[]string{"etc/0: should not be there"},
		},
		"link": {
			func(dir string) error {
				return keepTime(dir+"/etc", func() error {
					return errors.Join(os.Remove(dir+"/etc/s"), os.Symlink("other", dir+"/etc/s"))
				})
			},
			[]string{`etc/s: it is a link to "other", not "a"`},
		},
		"no longer one file": {
			func(dir string) error {
				return keepTime(dir+"/etc", func() error {
					return errors.Join(os.Remove(dir+"/etc/l"), os.WriteFile(dir+"/etc/l", []byte("bb"), 0o644))
				})
			},
			[]string{"etc/l: it is another file than it was"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := open(t, t.TempDir())
			d := commit(t, p, "l", mkdir(".", 0o755), mkdir("etc", 0o755), file("etc/a", "a"), file("etc/b", "bb"), digested("etc/k"),
				link("etc/b", "etc/l"), symlink("etc/s", "a"))
			if err := test.damage(d.Path()); err != nil {
				t.Fatal(err)
			}
			var got []string
			err := d.Compare(t.Context(), func(diff layer.Difference) error {
				got = append(got, diff.String())
				return nil
			})
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// overwrite writes over the beginning of a file and leaves its times as they are.
func overwrite(file, data string) error {
	return keepTime(file, func() error {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(data)
		return errors.Join(err, f.Close())
	})
}

func keepTime(file string, do func() error) error {
	st, err := os.Lstat(file)
	if err != nil {
		return err
	}
	return errors.Join(do(), os.Chtimes(file, st.ModTime(), st.ModTime()))
}

func TestCompleteList(t *testing.T) {
	p := open(t, t.TempDir())
	d := commit(t, p, "l", file("a", "a"), digested("b"), link("a", "c"))
	complete := []string{
		". 1 0755 0:0 0 implied", "a 0 0644 0:0 1700000000123456789 1 digest crc", "b 0 0644 0:0 1700000000123456789 5 digest", "c = a",
	}
	check := func(want []string) {
		t.Helper()
		if err := p.CompleteList(t.Context(), "l"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, listOf(t, d)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		same(t, d)
	}
	check(complete)
	complete[2] += " crc"
	if err := p.DropList("l"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenList(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a list that was dropped: %v", err)
	}
	check(complete)
	if err := os.Truncate(filepath.Join(filepath.Dir(d.Path()), "list"), 50); err != nil {
		t.Fatal(err)
	}
	if err := d.Compare(t.Context(), nil); !errors.Is(err, layer.ErrListDamaged) {
		t.Fatalf("a list that is damaged: %v", err)
	}
	check(complete)
}

// TestCompleteDamaged does not list what is damaged as if it were right.
func TestCompleteDamaged(t *testing.T) {
	p := open(t, t.TempDir())
	d := commit(t, p, "l", file("a", "a"))
	if err := overwrite(d.Path()+"/a", "b"); err != nil {
		t.Fatal(err)
	}
	var damaged *layer.DamagedError
	if err := p.CompleteList(t.Context(), "l"); !errors.As(err, &damaged) || damaged.First.Path != "a" {
		t.Errorf("error is %v", err)
	}
}

// TestReadListDamaged changes each byte of a list, and cuts it off everywhere.
func TestReadListDamaged(t *testing.T) {
	p := open(t, t.TempDir())
	d := commit(t, p, "l", file("a/b", "a"), digested("b"), link("b", "c"), whiteout("d"), symlink("e", "f"))
	data, err := os.ReadFile(filepath.Join(filepath.Dir(d.Path()), "list"))
	if err != nil {
		t.Fatal(err)
	}
	whole := listLines(t, bytes.NewReader(data))
	try := func(what string, damaged []byte) {
		n := 0
		for l, err := range layer.ReadList(bytes.NewReader(damaged)) {
			if err != nil {
				if !errors.Is(err, layer.ErrListDamaged) {
					t.Errorf("%s: %v", what, err)
				}
				return
			}
			if n >= len(whole) || listLine(l) != whole[n] {
				t.Errorf("%s: item %d is %s", what, n, listLine(l))
			}
			n++
		}
		t.Errorf("%s: not noticed", what)
	}
	for i := range data {
		try(fmt.Sprintf("cut to %d", i), data[:i])
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x10
		try(fmt.Sprintf("byte %d changed", i), flipped)
	}
	try("something more", append(bytes.Clone(data), 0))
}

func FuzzReadList(f *testing.F) {
	p := open(f, f.TempDir())
	for i, steps := range [][]step{nil, {file("a/b", "a"), digested("b"), link("b", "c"), whiteout("d"), symlink("e", "f")}} {
		d := commit(f, p, snapshot.ID(fmt.Sprint("l", i)), steps...)
		data, err := os.ReadFile(filepath.Join(filepath.Dir(d.Path()), "list"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = layer.Reseal(data)
		var again bytes.Buffer
		w := layer.NewListWriter(&again)
		for l, err := range layer.ReadList(bytes.NewReader(data)) {
			if err != nil {
				return
			}
			if err := w.Add(&l); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(listLines(t, bytes.NewReader(data)), listLines(t, &again)); diff != "" {
			t.Errorf("written again it is (-want +got):\n%s", diff)
		}
	})
}

// TestCompareDamagedList changes each byte of a list: it is the list that is damaged then.
func TestCompareDamagedList(t *testing.T) {
	p := open(t, t.TempDir())
	d := commit(t, p, "l", file("a/b", "a"), digested("b"), link("b", "c"), whiteout("d"), symlink("e", "f"))
	name := filepath.Join(filepath.Dir(d.Path()), "list")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		flipped := bytes.Clone(data)
		flipped[i] ^= 1 << (i % 8)
		if err := os.WriteFile(name, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		err := d.Compare(t.Context(), func(diff layer.Difference) error { return errors.New(diff.String()) })
		if !errors.Is(err, layer.ErrListDamaged) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}
