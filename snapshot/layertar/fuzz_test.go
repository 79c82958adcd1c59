package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
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
		l := opened(t, p, "l")
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

// FuzzRoundTrip makes layers of what the fuzzer says and packs, unpacks and
// packs them: the second pack must be the first.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x00a\x01b\x02c\x03d\x04e\x05f\x06g\x07h"))
	f.Add([]byte("\x00a\x08a\x00a\x01a\x09a\x00b\x08b"))
	f.Fuzz(func(t *testing.T, script []byte) {
		p, _ := openPool(t)
		d, err := p.Draft()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		perform(d, script)
		if err := d.Commit("l"); err != nil {
			t.Fatal(err)
		}
		l := opened(t, p, "l")
		var first []byte
		err = p.SetList("l", func(w *layer.ListWriter) error {
			first = write(t, l, layertar.Options{List: w.Add})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		opened(t, p, "l") // with the list that packing made
		again, err := apply(t, p, "again", first)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(solid(list(t, l)), solid(list(t, again))); diff != "" {
			t.Errorf("the layer changed (-want +got):\n%s", diff)
		}
		if second := write(t, again, layertar.Options{}); !bytes.Equal(first, second) {
			t.Errorf("the archive changed:\n%s", cmp.Diff(unpack(t, first), unpack(t, second), cmp.AllowUnexported(entry{})))
		}
	})
}

// solid leaves out implied directories, of which an archive says nothing.
func solid(lines []string) []string {
	return slices.DeleteFunc(lines, func(s string) bool { return strings.HasSuffix(s, "/ implied") })
}

// perform does to d what script says, two bytes an operation, errors and all.
func perform(d *layer.Draft, script []byte) {
	names := []string{"a", "b", "a/a", "a/b", "b/\xff", "a/b/c", "\n", "a/b/c/d"}
	for ; len(script) >= 2; script = script[2:] {
		x := int(script[1])
		name, other := names[x%8], names[x/8%8]
		e := snapshot.Entry{
			Mode: uint32(x) << 4 & 0o7777, UID: x << 14, GID: x, Link: other,
			ModTime: time.Unix(int64(x)<<22, int64(x%3)), Kind: snapshot.CharDevice, Major: uint32(x % 2), Minor: uint32(x),
		}
		switch script[0] % 11 {
		case 0:
			d.Mkdir(name, e)
		case 1:
			d.File(name, e, strings.NewReader(strings.Repeat("x", x)))
		case 2:
			d.Symlink(name, e)
		case 3:
			d.Link(other, name)
		case 4:
			d.Device(name, e)
		case 5:
			d.Fifo(name, e)
		case 6:
			d.Whiteout(name)
		case 7:
			d.Opaque(name)
		case 8:
			d.SetAttrs(name, e, map[string]string{"user.x": other, "trusted.y": name, "security.capability": capability})
		case 9:
			d.Remove(name)
		case 10:
			d.Implied(name)
		}
	}
}
