package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/layertar"
)

var now = time.Unix(1700000000, 0).UTC()

// entry is a tar entry and its content.
type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: now}, data}
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: now}, ""}
}

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777, ModTime: now}, ""}
}

func symlink(name, target string) entry  { return link(tar.TypeSymlink, name, target) }
func hardlink(name, target string) entry { return link(tar.TypeLink, name, target) }

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// unpack returns the entries of a tar with the fields that say how it was
// written taken away.
func unpack(t testing.TB, b []byte) []entry {
	t.Helper()
	var entries []entry
	r := tar.NewReader(bytes.NewReader(b))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(hdr.PAXRecords, func(k, _ string) bool { return !strings.HasPrefix(k, "SCHILY.xattr.") })
		if len(hdr.PAXRecords) == 0 {
			hdr.PAXRecords = nil
		}
		hdr.Xattrs, hdr.Format, hdr.ModTime = nil, 0, hdr.ModTime.UTC()
		entries = append(entries, entry{*hdr, string(data)})
	}
}

// openPool returns a pool in a directory of its own, which holds nothing else.
func openPool(t testing.TB) (*layer.Pool, string) {
	t.Helper()
	root := t.TempDir()
	tmp := filepath.Join(root, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := layer.OpenPool(filepath.Join(root, "layers"), func() (string, error) { return tmp, nil })
	if err != nil {
		t.Fatal(err)
	}
	return p, root
}

// apply makes layer id of an archive.
func apply(t testing.TB, p *layer.Pool, id snapshot.ID, archive []byte) (*layer.Dir, error) {
	t.Helper()
	d, err := p.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := layertar.Apply(context.Background(), d, bytes.NewReader(archive)); err != nil {
		return nil, err
	}
	if err := d.Commit(id); err != nil {
		t.Fatal(err)
	}
	l, err := p.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	return l, nil
}

func write(t testing.TB, d *layer.Dir, opt layertar.Options) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := layertar.Write(context.Background(), &buf, d, opt); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// list describes a layer, one line an item.
func list(t testing.TB, d *layer.Dir) []string {
	t.Helper()
	var lines []string
	err := d.Walk(func(name string, it layer.Item) error {
		var b strings.Builder
		b.WriteString(name)
		switch {
		case it.Whiteout:
			b.WriteString(" whiteout")
		case it.Kind == snapshot.Dir:
			b.WriteString("/")
		case it.Kind == snapshot.Symlink:
			b.WriteString(" -> " + it.Link)
		case it.Kind == snapshot.File:
			f, err := d.OpenFile(name)
			if err != nil {
				return err
			}
			defer f.Close()
			data, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		default:
			fmt.Fprintf(&b, " kind %d %d:%d", it.Kind, it.Major, it.Minor)
		}
		if it.Opaque {
			b.WriteString(" opaque")
		}
		if it.Implied {
			b.WriteString(" implied")
		}
		lines = append(lines, b.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestApply(t *testing.T) {
	tests := []struct {
		name    string
		archive []entry
		want    []string // with the implied root left out
	}{
		{"nothing", nil, nil},
		{"root", []entry{dir("./"), file("./a", "1")}, []string{"./", `a "1"`}},
		{"names are made relative",
			[]entry{file("/abs", "1"), file("./dot", "2"), file("x//y/../z", "3")},
			[]string{`abs "1"`, `dot "2"`, "x/ implied", `x/z "3"`}},
		{"implied directories",
			[]entry{file("a/b/c", "1"), dir("a/d")},
			[]string{"a/ implied", "a/b/ implied", `a/b/c "1"`, "a/d/"}},
		{"implied, then named",
			[]entry{file("a/b", "1"), dir("a")},
			[]string{"a/", `a/b "1"`}},
		{"the last entry wins",
			[]entry{file("a", "1"), file("a", "2"), symlink("b", "x"), file("b", "3"), file("c", "4"), symlink("c", "a")},
			[]string{`a "2"`, `b "3"`, "c -> a"}},
		{"a file replaces a directory and what is in it",
			[]entry{dir("a"), file("a/b/c", "1"), file("a", "2")},
			[]string{`a "2"`}},
		{"a directory replaces a file, keeps a directory",
			[]entry{file("a", "1"), dir("a"), file("a/b", "2"), dir("a")},
			[]string{"a/", `a/b "2"`}},
		{"a directory replaces a link",
			[]entry{dir("x"), symlink("a", "x"), dir("a"), file("a/b", "1")},
			[]string{"a/", `a/b "1"`, "x/"}},
		{"hard links",
			[]entry{file("a", "1"), hardlink("d/b", "a"), hardlink("/c", "./d/b"), hardlink("a", "a"), symlink("s", "a"), hardlink("t", "s")},
			[]string{`a "1"`, `c "1"`, "d/ implied", `d/b "1"`, "s -> a", "t -> a"}},
		{"a hard link replaces",
			[]entry{file("a", "1"), file("b", "2"), hardlink("b", "a"), hardlink("b", "a")},
			[]string{`a "1"`, `b "1"`}},
		{"whiteouts",
			[]entry{file(".wh.a", ""), file("d/.wh.b", ""), file("d/.wh..wh..opq", ""), file("d/c", "1")},
			[]string{"a whiteout", "d/ opaque implied", "d/b whiteout", `d/c "1"`}},
		{"a whiteout hides nothing of its own layer, before or after it",
			[]entry{file("a", "1"), file(".wh.a", ""), file(".wh.b", ""), file("b", "2")},
			[]string{`a "1"`, `b "2"`}},
		{"a whiteout and a directory make an opaque one",
			[]entry{dir("a"), file("a/x", ""), file(".wh.a", ""), file(".wh.b", ""), dir("b"), file(".wh.c", ""), file("c/x", "")},
			[]string{"a/ opaque", `a/x ""`, "b/ opaque", "c/ opaque", `c/x ""`}},
		{"whiteouts beneath a whiteout",
			[]entry{file(".wh.a", ""), file("a/.wh.b", ""), file("c/.wh.d", ""), file("c/e/.wh.f", ""), file(".wh.c", "")},
			[]string{"a whiteout", "c whiteout"}},
		{"an opaque root",
			[]entry{file(".wh..wh..opq", ""), file("a", "1")},
			[]string{"./ opaque implied", `a "1"`}},
		{"a hidden file",
			[]entry{file(".w", "1"), file(".whale", "2"), file("wh.x", "3")},
			[]string{`.w "1"`, `.whale "2"`, `wh.x "3"`}},
		{"a character device 0:0 is a whiteout",
			[]entry{{tar.Header{Typeflag: tar.TypeChar, Name: "a", ModTime: now}, ""}},
			[]string{"a whiteout"}},
		{"AUFS leaves its own files",
			[]entry{
				file(".wh..wh.aufs", "x"), dir(".wh..wh.orph/"), file(".wh..wh.orph/y", "x"), file("d/.wh..wh.foo", "x"),
				dir(".wh..wh.plnk/"), file(".wh..wh.plnk/101.5", "shared"),
				hardlink("a", ".wh..wh.plnk/101.5"), hardlink("b", ".wh..wh.plnk/101.5"),
			},
			[]string{`a "shared"`, `b "shared"`}},
		{"global headers, volume labels and contiguous files",
			[]entry{
				{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""},
				{tar.Header{Typeflag: 'V', Name: "label"}, ""},
				{tar.Header{Typeflag: tar.TypeCont, Name: "a", Size: 1, ModTime: now}, "1"},
			},
			[]string{`a "1"`}},
		{"a link of the same layer is followed, inside",
			[]entry{dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "1"), symlink("abs", "/usr/../../../usr/lib"), dir("abs/b"), file("abs/b/c", "2")},
			[]string{"abs -> /usr/../../../usr/lib", "lib -> usr/lib", "usr/ implied", "usr/lib/", `usr/lib/a "1"`, "usr/lib/b/", `usr/lib/b/c "2"`}},
		{"a link to what only lower layers have",
			[]entry{symlink("run", "/srv/run"), file("run/a", "1"), file("run/.wh.b", "")},
			[]string{"run -> /srv/run", "srv/ implied", "srv/run/ implied", "srv/run/b whiteout", `srv/run/a "1"`}},
		{"hard links through links",
			[]entry{file("x/a", "1"), symlink("l", "x"), hardlink("l/b", "l/a")},
			[]string{"l -> x", "x/ implied", `x/a "1"`, `x/b "1"`}},
		{"links climb no higher than the draft",
			[]entry{symlink("up", "../../../../../../../.."), file("up/etc/a", "1"), symlink("up/etc/b", "../../up"), file("up/etc/b/c", "2")},
			[]string{"etc/ implied", `etc/a "1"`, "etc/b -> ../../up", `c "2"`, "up -> ../../../../../../../.."}},
		{"names of any bytes",
			[]entry{file("a\xff\xfe", "1"), file("new\nline", "2"), file("ü", "3"), file("-rf *", "4"), file(`back\slash`, "5")},
			[]string{"-rf * \"4\"", "a\xff\xfe \"1\"", `back\slash "5"`, "new\nline \"2\"", `ü "3"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := openPool(t)
			d, err := apply(t, p, "l", pack(t, tt.archive...))
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(list(t, d), func(s string) bool { return s == "./ implied" })
			if diff := cmp.Diff(slices.Sorted(slices.Values(tt.want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("layer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	long := strings.Repeat("d/", 2100)
	tests := []struct {
		name    string
		archive []byte
		want    string
	}{
		{"a name outside", pack(t, file("../x", "")), `unpack "../x": it is outside of the layer`},
		{"a cunning name outside", pack(t, file("a/b/../../../x", "")), `unpack "a/b/../../../x": it is outside of the layer`},
		{"a hard link to outside", pack(t, hardlink("x", "../../etc/passwd")), `unpack "x": hard link to "../../etc/passwd": it is outside of the layer`},
		{"a hard link to the machine's", pack(t, hardlink("x", "/etc/passwd")), `, which the layer does not have: lstat etc/passwd: file does not exist`},
		{"a hard link through a link to outside", pack(t, symlink("l", "/etc"), hardlink("x", "l/passwd")), `, which the layer does not have: lstat etc/passwd: file does not exist`},
		{"a hard link to a directory", pack(t, dir("d"), hardlink("x", "d")), `unpack "x": link d: is a directory`},
		{"a hard link to a whiteout", pack(t, file(".wh.d", ""), hardlink("x", "d")), `, which the layer does not have: lstat d: file does not exist`},
		{"a hard link over the directory of its target", pack(t, file("d/a", ""), hardlink("d", "d/a")), `unpack "d": link d: no such file or directory`},
		{"a loop of links", pack(t, symlink("a", "b"), symlink("b", "a"), file("a/x", "")), `unpack "a/x": resolve a/: too many levels of symbolic links`},
		{"a file in a file", pack(t, file("a", ""), file("a/b", "")), `unpack "a/b": create a/b: a: not a directory`},
		{"a whiteout of nothing", pack(t, file("d/.wh.", "")), `unpack "d/.wh.": it is a whiteout of nothing`},
		{"a whiteout of the directory", pack(t, file(".wh..", "")), `unpack ".wh..": it is a whiteout of nothing`},
		{"a whiteout of the parent", pack(t, file("d/.wh...", "")), `unpack "d/.wh...": it is a whiteout of nothing`},
		{"a file in a whiteout", pack(t, file("d/.wh.x/y", "")), `unpack "d/.wh.x/y": it is in a directory whose name is that of a whiteout`},
		{"a root that is a link", pack(t, symlink("./", "/etc")), `unpack "./": symlink .: invalid argument`},
		{"a root that is a file", pack(t, file(".", "x")), `unpack ".": create .: invalid argument`},
		{"a negative owner", pack(t, entry{tar.Header{Typeflag: tar.TypeReg, Name: "x", Uid: -1, Format: tar.FormatGNU}, ""}), `unpack "x": create x: owner -1:0 is out of range`},
		{"an owner that means none", pack(t, entry{tar.Header{Typeflag: tar.TypeReg, Name: "x", Gid: 1<<32 - 1}, ""}), `unpack "x": create x: owner 0:4294967295 is out of range`},
		{"a huge owner", pack(t, entry{tar.Header{Typeflag: tar.TypeReg, Name: "x", Uid: 1 << 40}, ""}), `unpack "x": create x: owner 1099511627776:0 is out of range`},
		{"a huge device", pack(t, entry{tar.Header{Typeflag: tar.TypeBlock, Name: "x", Devmajor: 1 << 12}, ""}), `unpack "x": device 4096:0 is out of range`},
		{"an unknown type", pack(t, entry{tar.Header{Typeflag: 'M', Name: "x"}, ""}), `unpack "x": its type 'M' is not known`},
		{"a name too long", pack(t, file(long+"x", "")), `: file name too long`},
		{"a part of a name too long", pack(t, file(strings.Repeat("x", 256), "")), `: file name too long`},
		{"a name too long through a link", pack(t, dir(long[:3000]), symlink("l", long[:3000]), file("l/"+long[:3000]+"x", "")), `: file name too long`},
		{"a truncated archive", pack(t, file("x", "12345"))[:514], `write x: unexpected EOF`},
		{"a truncated header", pack(t, file("x", "12345"))[:200], `read layer: unexpected EOF`},
		{"no archive", bytes.Repeat([]byte("nonsense"), 100), `read layer: archive/tar: invalid tar header`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, root := openPool(t)
			_, err := apply(t, p, "l", tt.archive)
			if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
			if _, err := p.Open("l"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a layer was published: %v", err)
			}
			if left, _ := os.ReadDir(filepath.Join(root, "tmp")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A file that claims to have exabytes, all of them a hole, must not be tried.
func TestApplyRefusesAbsurdSize(t *testing.T) {
	hdr := make([]byte, 512)
	copy(hdr, "huge")
	copy(hdr[100:], "0000644\x000000000\x000000000\x00")
	copy(hdr[124:], "00000000000\x00") // nothing is stored
	copy(hdr[136:], "00000000000\x00        ")
	hdr[156] = 'S'
	copy(hdr[257:], "ustar  \x00")
	// Sparse map: one empty fragment at the end, and the real size in base 256.
	huge := []byte{0x80, 0, 0, 0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	copy(hdr[386:], huge)
	copy(hdr[398:], "00000000000\x00")
	copy(hdr[483:], huge)
	sum := 0
	for _, c := range hdr {
		sum += int(c)
	}
	copy(hdr[148:], fmt.Sprintf("%06o\x00 ", sum))

	p, _ := openPool(t)
	_, err := apply(t, p, "l", append(hdr, make([]byte, 1024)...))
	want := `unpack "huge": its size, 1152921504606846975 bytes, is more than any file may have`
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestApplyCanceled(t *testing.T) {
	p, root := openPool(t)
	d, err := p.Draft()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	archive := pack(t, file("a", "1"), file("b", strings.Repeat("x", 1<<20)), file("c", "3"))
	// The context ends in the middle of b.
	r := io.MultiReader(bytes.NewReader(archive[:4096]), readFunc(func([]byte) (int, error) { cancel(); return 0, nil }), bytes.NewReader(archive[4096:]))
	if err := layertar.Apply(ctx, d, r); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if _, err := d.Lstat("c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it went on: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// Apply reads all there is, because the bytes after the archive count in digests.
func TestApplyReadsToTheEnd(t *testing.T) {
	p, _ := openPool(t)
	d, err := p.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := bytes.NewReader(append(pack(t, file("a", "1")), make([]byte, 100_000)...))
	if err := layertar.Apply(context.Background(), d, r); err != nil {
		t.Fatal(err)
	}
	if r.Len() > 0 {
		t.Errorf("%d bytes are left", r.Len())
	}
}

// Nothing of the machine that runs it may be reached by what an archive says.
func FuzzApply(f *testing.F) {
	for _, entries := range [][]entry{
		{file("../outside", "x"), file("/../outside", "x")},
		{symlink("l", "../../outside"), file("l", "x"), file("l/x", "x"), hardlink("h", "l"), dir("l/d")},
		{symlink("l", "/"), file("l/outside", "x"), file("l/.wh.x", ""), file("l/.wh..wh..opq", "")},
		{symlink("a", "."), symlink("a/b", ".."), file("a/b/outside", "x"), symlink("a/a", "/proc/self/root")},
		{dir("d"), symlink("d", ".."), file("d/outside", "x"), hardlink("d/outside", "d")},
		{hardlink("x", "../../outside"), file("x", "x"), hardlink("../x", "x")},
		{file(".wh...", ""), file(".wh..", ""), file(".wh.", ""), file("a/.wh.../x", "")},
		{file(".wh..wh.plnk/../../../outside", "x"), dir(".wh..wh.plnk"), symlink(".wh..wh.plnk/x", "/")},
		{symlink(".wh..wh.plnk", ".."), file(".wh..wh.plnk/x", "x"), hardlink("y", ".wh..wh.plnk/x")},
		{file("a", "x"), hardlink("b", "a"), symlink("a", "b"), file("a/x", ""), {tar.Header{Typeflag: tar.TypeFifo, Name: "f"}, ""}},
	} {
		f.Add(pack(f, entries...))
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		archive = mend(archive)
		p, root := openPool(t)
		outside := filepath.Join(root, "outside")
		if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := tree(t, root)
		d, err := p.Draft()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // holes take long
		defer cancel()
		err = layertar.Apply(ctx, d, bytes.NewReader(archive))
		if diff := cmp.Diff(before, tree(t, root)); diff != "" {
			t.Fatalf("outside of the draft (-before +after):\n%s", diff)
		}
		if err != nil {
			return
		}
		if err := d.Commit("l"); err != nil {
			t.Fatal(err)
		}
		l, err := p.Open("l")
		if err != nil {
			t.Fatal(err)
		}
		first := write(t, l, layertar.Options{})
		again, err := apply(t, p, "again", first)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, write(t, again, layertar.Options{})) {
			t.Errorf("what was packed unpacks to something else:\n%s", cmp.Diff(list(t, l), list(t, again)))
		}
	})
}

// mend sets the checksum of every header, so that a change of one is tried.
func mend(archive []byte) []byte {
	archive = bytes.Clone(archive)
	for b := archive; len(b) >= 512; b = b[512:] {
		if string(b[257:262]) == "ustar" {
			checksum(b)
		}
	}
	return archive
}

// tree describes everything beneath root that is not a draft's or a layer's.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		if ok, _ := path.Match("tmp/layer-*", rel); ok {
			return fs.SkipDir
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		data := ""
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			data = string(b)
		}
		m[rel] = fmt.Sprint(fi.Mode(), data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
