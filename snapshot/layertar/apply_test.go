package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot/layertar"
)

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
