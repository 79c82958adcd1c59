package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layertar"
)

// capability is cap_net_raw=ep in the form that the kernel keeps (VFS_CAP_REVISION_2).
var capability = func() string {
	b := make([]byte, 20)
	binary.LittleEndian.PutUint32(b, 0x02000001)
	binary.LittleEndian.PutUint32(b[4:], 1<<13)
	return string(b)
}()

// with returns e changed by change.
func with(e entry, change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

func xattr(key, value string) func(*tar.Header) {
	return func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
}

// everything is an archive in the form that Write gives it, with all there is.
func everything() []entry {
	nano := func(h *tar.Header) { h.ModTime, h.Format = now.Add(123456789), tar.FormatPAX }
	owner := func(uid, gid int) func(*tar.Header) { return func(h *tar.Header) { h.Uid, h.Gid = uid, gid } }
	mode := func(m int64) func(*tar.Header) { return func(h *tar.Header) { h.Mode = m } }
	device := func(kind byte, name string, major, minor int64) entry {
		return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o620, Devmajor: major, Devminor: minor, ModTime: now}, ""}
	}
	marker := func(name string) entry {
		return with(file(name, ""), func(h *tar.Header) { h.Mode, h.ModTime = 0o600, time.Unix(0, 0).UTC() })
	}
	deep := strings.Repeat("directory/", 30)
	return []entry{
		with(dir("./"), mode(0o700)),
		marker(".wh.gone"),
		with(file("capable", "x"), xattr("security.capability", capability)),
		device(tar.TypeChar, "char", 5, 1),
		device(tar.TypeBlock, "block", 4095, 1<<20-1),
		with(dir("dir/"), func(h *tar.Header) { owner(33, 34)(h); mode(0o3770)(h); nano(h) }),
		with(file("dir/secret", "s"), mode(0)),
		with(dir("dir/sub/"), mode(0o555)),
		file("dir/sub/x", "x"),
		file("empty", ""),
		with(file("epoch", "0"), func(h *tar.Header) { h.ModTime = time.Unix(0, 0).UTC() }),
		device(tar.TypeFifo, "fifo", 0, 0),
		file("hard1", "shared"),
		with(hardlink("hard2", "hard1"), mode(0o644)),
		file(deep+"file", "deep"),
		with(file("huge-owner", ""), owner(1<<31, 1<<32-2)),
		with(file("large-owner", ""), owner(1<<21+1, 1<<22)),
		with(file("long-"+strings.Repeat("n", 200), "long"), nano),
		with(file("nano", "n"), nano),
		with(file("old", "o"), func(h *tar.Header) { h.ModTime, h.Format = time.Unix(-86400, 5).UTC(), tar.FormatPAX }),
		file("odd \x01\n\t\xff\\\"'*?[]%=", "odd"),
		dir("opaque/"),
		marker("opaque/.wh..wh..opq"),
		marker("opaque/.wh.a"),
		file("opaque/b", "b"),
		with(file("sticky", ""), mode(0o1644)),
		with(file("suid", "s"), func(h *tar.Header) { mode(0o6755)(h); owner(0, 42)(h) }),
		with(file("suid-own", "s"), mode(0o4711)),
		symlink("symlink", "/absolute/../"+strings.Repeat("t", 150)),
		with(symlink("symlink-owned", "x"), func(h *tar.Header) { owner(7, 8)(h); nano(h) }),
		symlink("symlink2", "\xff\xfe"),
		with(hardlink("symlink3", "symlink2"), mode(0o777)),
		with(file("xattrs", "x"), func(h *tar.Header) {
			xattr("user.binary", "\x00\x01\xff=\n")(h)
			xattr("user.empty", "")(h)
			xattr("user.a%3Db%25c", "equals and percent")(h)
			xattr("trusted.lamina", "t")(h)
			xattr("user.long", strings.Repeat("v", 1500))(h)
		}),
		with(dir("xdir/"), xattr("user.dir", "d")),
	}
}

// order sorts entries as Write does: siblings by name, whiteouts first.
func order(entries []entry) []entry {
	key := func(e entry) string {
		parts := strings.Split(strings.Trim(strings.TrimPrefix(e.Name, "./"), "/"), "/")
		if e.Name == "./" {
			return ""
		}
		last := len(parts) - 1
		for i, p := range parts {
			rank := "1"
			if i == last && strings.HasPrefix(p, ".wh.") {
				rank = "0"
			}
			parts[i] = rank + p
		}
		return strings.Join(parts, "\x00")
	}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(key(a), key(b)) })
	return entries
}

func TestRoundTrip(t *testing.T) {
	want := order(everything())
	p, _ := openPool(t)
	d, err := apply(t, p, "l", pack(t, want...))
	if err != nil {
		t.Fatal(err)
	}
	archive := write(t, d, layertar.Options{})
	got := unpack(t, archive)
	for i := range want {
		want[i].Format = 0
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("packed (-want +got):\n%s", diff)
	}
	again, err := apply(t, p, "again", archive)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive, write(t, again, layertar.Options{})) {
		t.Error("packing again gives other bytes")
	}
}

// Root and an ordinary user, and every version of this program, must make the
// same bytes of the same layer, or digests would mean nothing.
func TestWriteIsStable(t *testing.T) {
	p, _ := openPool(t)
	d, err := apply(t, p, "l", pack(t, everything()...))
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:e840789a58149e79789839769639e703e148e53e718189ca55870795b355016b"
	if got := digestOf(write(t, d, layertar.Options{})); got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
}

// A tar says no more than it must: what old readers know stays in the old form.
func TestWritePlainHeaders(t *testing.T) {
	p, _ := openPool(t)
	d, err := apply(t, p, "l", pack(t, dir("d/"), file("d/a", "1"), symlink("d/b", "a")))
	if err != nil {
		t.Fatal(err)
	}
	archive := write(t, d, layertar.Options{})
	if want := 3*512 + 512 + 1024; len(archive) != want { // headers, content, end
		t.Errorf("%d bytes, want %d", len(archive), want)
	}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if hdr.Format != tar.FormatUSTAR {
			t.Errorf("%s: format is %v, want USTAR", hdr.Name, hdr.Format)
		}
	}
}

func TestWriteEpoch(t *testing.T) {
	p, _ := openPool(t)
	early, late := now.Add(-time.Hour), now.Add(time.Nanosecond)
	at := func(e entry, t time.Time) entry {
		return with(e, func(h *tar.Header) { h.ModTime, h.Format = t, tar.FormatPAX })
	}
	d, err := apply(t, p, "l", pack(t, at(file("early", ""), early), at(file("late", ""), late), at(dir("now"), now)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]time.Time{}
	for _, e := range unpack(t, write(t, d, layertar.Options{Epoch: &now})) {
		got[e.Name] = e.ModTime
	}
	want := map[string]time.Time{"early": early, "late": now, "now/": now}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

// A file whose name would be read as a whiteout must not be packed as one.
func TestWriteRefusesReservedNames(t *testing.T) {
	p, _ := openPool(t)
	d, err := p.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.File("d/.wh.passwd", snapshot.Entry{}, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit("l"); err != nil {
		t.Fatal(err)
	}
	l, err := p.Open("l")
	if err != nil {
		t.Fatal(err)
	}
	err = layertar.Write(context.Background(), io.Discard, l, layertar.Options{})
	want := `pack layer l: d/.wh.passwd: names that begin with ".wh." mean whiteouts in a layer, and cannot be files of one`
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestWriteLeavesSocketsOut(t *testing.T) {
	p, root := openPool(t)
	upper := filepath.Join(root, "tmp", "upper")
	if err := os.Mkdir(upper, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(filepath.Join(upper, "socket"), syscall.S_IFSOCK|0o600, 0); err != nil {
		t.Skip("cannot make a socket: ", err)
	}
	if err := p.Adopt(upper, "l", "."); err != nil {
		t.Fatal(err)
	}
	l, err := p.Open("l")
	if err != nil {
		t.Fatal(err)
	}
	if got := unpack(t, write(t, l, layertar.Options{})); len(got) > 0 {
		t.Errorf("packed %v", got)
	}
}

func TestWriteTree(t *testing.T) {
	p, _ := openPool(t)
	for id, entries := range map[snapshot.ID][]entry{
		"lower": {dir("./"), dir("d/"), file("d/a", "lower a"), file("d/b", "lower b"), file("gone", "x"), file("z", "1"), hardlink("y", "z")},
		"upper": {file(".wh.gone", ""), file("d/a", "upper a"), file("c", "c")},
	} {
		if _, err := apply(t, p, id, pack(t, entries...)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := p.Stack([]snapshot.ID{"lower", "upper"})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := layertar.WriteTree(context.Background(), &buf, s, layertar.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []entry{
		file("c", "c"), dir("d/"), file("d/a", "upper a"), file("d/b", "lower b"),
		file("y", "1"), with(hardlink("z", "y"), func(h *tar.Header) { h.Mode = 0o644 }),
	}
	if diff := cmp.Diff(want, unpack(t, buf.Bytes()), cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("packed (-want +got):\n%s", diff)
	}
}

// Holes stay holes on disk, and zeros in the archive.
func TestSparse(t *testing.T) {
	p, _ := openPool(t)
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{}).Read(data[1<<20 : 1<<20+5000])
	data[len(data)-3<<20] = 1
	d, err := apply(t, p, "l", pack(t, file("sparse", string(data)), file("zeros", string(data[:1<<20]))))
	if err != nil {
		t.Fatal(err)
	}
	for name, limit := range map[string]int64{"sparse": 256 << 10, "zeros": 64 << 10} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(d.Path(), name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > limit {
			t.Errorf("%s takes %d bytes on disk, want at most %d", name, st.Blocks*512, limit)
		}
	}
	got := unpack(t, write(t, d, layertar.Options{}))
	if len(got) != 2 || got[0].data != string(data) || got[1].data != string(data[:1<<20]) {
		t.Error("the content changed")
	}
}

// GNU tar's sparse files, in both forms, are unpacked as what they mean.
func TestApplySparseForms(t *testing.T) {
	content := "head" + strings.Repeat("\x00", 1<<20) + "tail"
	// PAX format 1.0: the map, as decimal lines, comes before the data.
	sparseMap := "2\n0\n4\n1048580\n4\n"
	body := sparseMap + strings.Repeat("\x00", 512-len(sparseMap)) + "headtail"
	records := ""
	for _, kv := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=sparse", fmt.Sprint("GNU.sparse.realsize=", len(content))} {
		n := len(kv) + 4 // length, space and newline
		records += fmt.Sprintf("%d %s\n", n, kv)
	}
	raw := func(kind byte, name, data string) []byte {
		b := pack(t, entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: now, Format: tar.FormatUSTAR}, data})
		b = b[:len(b)-1024]
		b[156] = kind
		return checksum(b)
	}
	archive := slices.Concat(raw('x', "PaxHeaders/sparse", records), raw('0', "GNUSparseFile.0/sparse", body), make([]byte, 1024))

	p, _ := openPool(t)
	d, err := apply(t, p, "l", archive)
	if err != nil {
		t.Fatal(err)
	}
	got := unpack(t, write(t, d, layertar.Options{}))
	if len(got) != 1 || got[0].Name != "sparse" || got[0].data != content {
		t.Errorf("unpacked %d entries, not the sparse file", len(got))
	}
}

// Attributes of this machine do not get into images, nor overlay's own in or out.
func TestApplyLeavesForeignXattrsOut(t *testing.T) {
	p, _ := openPool(t)
	e := with(dir("d/"), func(h *tar.Header) {
		for _, k := range []string{"trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "security.selinux", "user.mine"} {
			xattr(k, "y")(h)
		}
	})
	d, err := apply(t, p, "l", pack(t, e, with(symlink("s", "x"), xattr("user.impossible", "1"))))
	if err != nil {
		t.Fatal(err)
	}
	it, err := d.Lstat("d")
	if err != nil {
		t.Fatal(err)
	}
	if it.Opaque {
		t.Error("an archive made a directory opaque by overlay's attribute")
	}
	for name, want := range map[string]map[string]string{"d": {"user.mine": "y"}, "s": nil} {
		got, err := d.Xattrs(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attributes of %s (-want +got):\n%s", name, diff)
		}
	}
}
