package fileset

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"lamina/snapshot"
)

// member is one entry of an archive that a test makes.
type member struct {
	tar.Header
	data string
}

func tarFile(name, data string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Uid: 7, Gid: 8}, data}
}

func (m member) at(t time.Time) member { m.ModTime = t; return m }

func tarDir(name string) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750, Uid: 9, Gid: 10}, ""}
}

func tarLink(name, to string) member {
	return member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""}
}

func tarHard(name, to string) member {
	return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o640, Uid: 7, Gid: 8}, ""}
}

func tarball(t testing.TB, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Format = tar.FormatPAX
		m.Size = int64(len(m.data))
		if m.ModTime.IsZero() {
			m.ModTime = when
		}
		must(t, w.WriteHeader(&m.Header))
		_, err := w.Write([]byte(m.data))
		must(t, err)
	}
	must(t, w.Close())
	return b.String()
}

// added unpacks an archive onto base and returns the layer.
func added(t testing.TB, base snapshot.Tree, archive string, opt CopyOptions) (string, error) {
	t.Helper()
	s := selection(t, fakeTree{"t.tar": file(0o600, archive)}, "t.tar")
	id, err := s.Digest(t.Context(), Hash{}, DigestOptions{ResetOwner: true, Unpack: true})
	must(t, err)
	return copied(t, base, []From{{Selection: s, Unpack: true, ResetOwner: true, Expect: &id}}, opt)
}

func TestUnpack(t *testing.T) {
	for _, tc := range []struct {
		name    string
		members []member
		opt     CopyOptions
		want    string
	}{
		{"owners, modes and times are the archive's",
			[]member{tarDir("./"), tarDir("d/"), tarFile("d/f", "f"), tarLink("d/l", "/abs")}, CopyOptions{Dest: "/x"},
			`x dir 0755 0:0 2030-01-01T00:00:00Z
			x/d dir 0750 9:10
			x/d/f file 0640 7:8 "f"
			x/d/l link 0777 0:0 -> /abs`},
		{"a member that is the directory itself by another name",
			[]member{tarDir("../.."), tarFile("f", "f")}, CopyOptions{Dest: "/x"},
			`x dir 0750 9:10
			x/f file 0640 7:8 "f"`},
		{"times that nobody can keep",
			[]member{tarFile("f", "f").at(time.Unix(-1, 0)), tarFile("g", "g").at(time.Unix(1<<40, 0))}, CopyOptions{Dest: "/"},
			`f file 0640 7:8 1970-01-01T00:00:00Z "f"
			g file 0640 7:8 1970-01-01T00:00:00Z "g"`},
		{"an owner", []member{tarDir("d"), tarFile("d/f", "f"), tarFile("e/f", "f")}, CopyOptions{Dest: "/x/", Owner: &Owner{100, 200}},
			`x dir 0755 100:200 2030-01-01T00:00:00Z
			x/d dir 0750 100:200
			x/d/f file 0640 100:200 "f"
			x/e dir 0755 0:0 2030-01-01T00:00:00Z
			x/e/f file 0640 100:200 "f"`},
		{"a mode changes nothing", []member{tarFile("f", "f")}, CopyOptions{Dest: "/", Mode: "777"},
			`f file 0640 7:8 "f"`},
		{"existing directories", []member{tarDir("app/"), tarFile("app/sub/f", "f")}, CopyOptions{Dest: "/"},
			`app dir 0750 9:10
			app/sub dir 0711 501:601 2030-01-01T00:00:00Z user.base="b"
			app/sub/f file 0640 7:8 "f"`},
		{"the destination keeps its attributes", []member{tarDir("."), tarFile("f", "f")}, CopyOptions{Dest: "/app"},
			appLine + `
			app/f file 0640 7:8 "f"`},
		{"through an absolute link", []member{tarDir("var/run/a/"), tarFile("var/run/a/f", "f"), tarHard("var/run/a/h", "var/run/a/f")}, CopyOptions{Dest: "/"},
			`run dir 0755 0:0 2030-01-01T00:00:00Z
			run/a dir 0750 9:10
			run/a/f file 0640 7:8 "f"
			run/a/h file 0640 7:8 same as run/a/f`},
		{"through its own link", []member{tarDir("real"), tarLink("alias", "real"), tarFile("alias/f", "f")}, CopyOptions{Dest: "/x"},
			`x dir 0755 0:0 2030-01-01T00:00:00Z
			x/alias link 0777 0:0 -> real
			x/real dir 0750 9:10
			x/real/f file 0640 7:8 "f"`},
		{"its links do not lead out", []member{tarDir("in/etc"), tarLink("in/up", "../../../../in/etc"), tarFile("in/up/f", "f"), tarFile("/abs", "a"), tarFile("a/../b", "b"), tarFile("../../c", "c"), tarHard("../d", "../../c")}, CopyOptions{Dest: "/app/sub"},
			`app dir 0750 500:600 1970-01-01T00:50:00Z
			app/sub dir 0711 501:601 2030-01-01T00:00:00Z user.base="b"
			app/sub/abs file 0640 7:8 "a"
			app/sub/b file 0640 7:8 "b"
			app/sub/c file 0640 7:8 "c"
			app/sub/d file 0640 7:8 same as app/sub/c
			app/sub/in dir 0755 0:0 2030-01-01T00:00:00Z
			app/sub/in/etc dir 0750 9:10
			app/sub/in/etc/f file 0640 7:8 "f"
			app/sub/in/up link 0777 0:0 -> ../../../../in/etc`},
		{"a directory replaces a link and a file", []member{tarDir("bin/"), tarDir("plain/"), tarFile("plain/f", "f")}, CopyOptions{Dest: "/"},
			`bin dir 0750 9:10
			plain dir 0750 9:10
			plain/f file 0640 7:8 "f"`},
		{"a file replaces a directory", []member{tarFile("app", "f")}, CopyOptions{Dest: "/"},
			`app file 0640 7:8 "f"`},
		{"the later entry wins", []member{tarFile("f", "1"), tarFile("f", "2"), tarDir("d"), tarFile("d/x", "x"), tarFile("d", "no directory")}, CopyOptions{Dest: "/"},
			`d file 0640 7:8 "no directory"
			f file 0640 7:8 "2"`},
		{"a hard link to what was there", []member{tarHard("h", "plain"), tarHard("i", "to-plain")}, CopyOptions{Dest: "/"},
			`h file 0640 7:8 "plain"
			i link 0777 7:8 -> /plain
			plain file 0640 7:8 same as h
			to-plain link 0777 7:8 -> /plain`},
		{"attributes and devices", []member{
			{tar.Header{Typeflag: tar.TypeReg, Name: "cap", Mode: 0o4755, PAXRecords: map[string]string{
				"SCHILY.xattr.user.a": "b", "SCHILY.xattr.trusted.overlay.opaque": "y"}}, "x"},
			{tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
			{tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, ""},
		}, CopyOptions{Dest: "/"},
			`cap file 4755 0:0 "x" user.a="b"
			null char 0666 0:0 1:3
			pipe fifo 0600 0:0`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := added(t, baseTree(), tarball(t, tc.members...), tc.opt)
			must(t, err)
			if diff := cmp.Diff(lines(tc.want), got); diff != "" {
				t.Errorf("the layer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnpackHidesReplacedDirectory(t *testing.T) {
	// The directory comes back, but not with what it had before.
	archive := tarball(t, tarFile("app", "f"), tarDir("app"), tarFile("app/new", "n"))
	p := newPool(t)
	below := newDraft(t, p)
	must(t, Copy(t.Context(), below, fakeTree{}, []From{{Selection: selection(t, memory("app/old", "app/sub/old"), ".")}},
		CopyOptions{Dest: "/", Now: now}))
	must(t, below.Commit("below"))
	base, err := p.Stack([]snapshot.ID{"below"})
	must(t, err)
	above := newDraft(t, p)
	s := selection(t, fakeTree{"t": file(0o600, archive)}, "t")
	must(t, Copy(t.Context(), above, base, []From{{Selection: s, Unpack: true}}, CopyOptions{Dest: "/", Now: now}))
	must(t, above.Commit("above"))
	both, err := p.Stack([]snapshot.ID{"below", "above"})
	must(t, err)
	want := lines(`app dir 0750 9:10
		app/new file 0640 7:8 "n"`)
	if diff := cmp.Diff(want, list(t, both)); diff != "" {
		t.Errorf("the tree (-want +got):\n%s", diff)
	}
}

func TestUnpackErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		archive string
		want    string
	}{
		{"under a link out", tarball(t, tarLink("l", "/app/no"), tarFile("l/f", "f")), "unpack t.tar: l/f: the link l above it leads nowhere in the archive's directory"},
		{"link to itself", tarball(t, tarFile("f", "f"), tarHard("f", "./f")), "unpack t.tar: f: hard link to ./f, which does not exist"},
		{"link to nothing", tarball(t, tarHard("f", "nothing2")), "unpack t.tar: f: hard link to nothing2, which does not exist"},
		{"link to a directory", tarball(t, tarHard("f", "app")), "unpack t.tar: f: /app is a directory and can have no hard link"},
		{"under a file", tarball(t, tarFile("plain/f", "f")), "unpack t.tar: plain/f: /plain is not a directory"},
		{"under its own file", tarball(t, tarFile("f", "f"), tarFile("f/a/b", "b")), "unpack t.tar: f/a/b: /f is not a directory"},
		{"truncated", tarball(t, tarFile("f", strings.Repeat("x", 4000)))[:3000], "unpack t.tar: f: write f: unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := added(t, baseTree(), tc.archive, CopyOptions{Dest: "/"})
			if err == nil || err.Error() != tc.want {
				t.Errorf("ADD = %v, want %s", err, tc.want)
			}
		})
	}
	t.Run("onto a file", func(t *testing.T) {
		_, err := added(t, baseTree(), tarball(t, tarFile("f", "f")), CopyOptions{Dest: "/plain"})
		if err == nil || err.Error() != "/plain is not a directory" {
			t.Errorf("ADD = %v", err)
		}
	})
}

func TestUnpackByContent(t *testing.T) {
	plain := tarball(t, tarFile("f", "f"))
	var gz, zst, xzb bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	must(t, err)
	x, err := xz.NewWriter(&xzb)
	must(t, err)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z, x} {
		_, err := w.Write([]byte(plain))
		must(t, err)
		must(t, w.Close())
	}
	unpacked := "x dir 0755 0:0 2030-01-01T00:00:00Z\nx/f file 0640 7:8 \"f\"\n"
	for name, content := range map[string]string{
		"plain": plain, "gzip": gz.String(), "zstd": zst.String(), "xz": xzb.String(),
		"followed by something": plain + strings.Repeat("\x00", 5000) + "trailer",
	} {
		got, err := added(t, fakeTree{}, content, CopyOptions{Dest: "/x"})
		if err != nil || got != unpacked {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	var text bytes.Buffer
	g = gzip.NewWriter(&text)
	_, err = g.Write([]byte("just text"))
	must(t, err)
	must(t, g.Close())
	for name, content := range map[string]string{
		"text": "just text", "empty": "", "compressed text": text.String(), "zeros": strings.Repeat("\x00", 4096),
		"half a header": plain[:300],
	} {
		got, err := added(t, fakeTree{}, content, CopyOptions{Dest: "/x"})
		if err != nil || !strings.HasPrefix(got, "x file 0600 0:0 ") {
			t.Errorf("%s: %v\n%.200s", name, err, got)
		}
	}
}

func TestUnpackOnlyIfAsked(t *testing.T) {
	s := selection(t, fakeTree{"t.tar": file(0o600, tarball(t, tarFile("f", "f")))}, "t.tar")
	got, err := copied(t, fakeTree{}, []From{{Selection: s}}, CopyOptions{Dest: "/x/"})
	if err != nil || !strings.Contains(got, "x/t.tar file 0600") {
		t.Errorf("COPY of an archive: %v\n%s", err, got)
	}
}

func TestUnpackMany(t *testing.T) {
	tree := fakeTree{
		"a.tar": file(0o600, tarball(t, tarFile("a", "a"))),
		"b.tar": file(0o600, tarball(t, tarFile("b", "b"))),
		"c.tar": file(0o644, "no archive"),
	}
	got, err := copied(t, fakeTree{}, []From{{Selection: selection(t, tree, "*.tar"), Unpack: true}}, CopyOptions{Dest: "/x"})
	must(t, err)
	want := lines(`x dir 0755 0:0 2030-01-01T00:00:00Z
		x/a file 0640 7:8 "a"
		x/b file 0640 7:8 "b"
		x/c.tar file 0644 0:0 "no archive"`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnpackNoticesChanges(t *testing.T) {
	tree := fakeTree{"t": file(0o600, tarball(t, tarFile("f", "f"))+"one")}
	s := selection(t, tree, "t")
	id, err := s.Digest(t.Context(), Hash{}, DigestOptions{Unpack: true})
	must(t, err)
	tree["t"] = file(0o600, tarball(t, tarFile("f", "f"))+"two")
	_, err = copied(t, fakeTree{}, []From{{Selection: s, Unpack: true, Expect: &id}}, CopyOptions{Dest: "/"})
	if !errors.Is(err, ErrChanged) {
		t.Errorf("Copy = %v", err)
	}
}

// TestDigestOfArchive: of what is unpacked only the content counts.
func TestDigestOfArchive(t *testing.T) {
	archive := tarball(t, tarFile("f", "f"))
	opt := DigestOptions{Unpack: true}
	base, _ := identify(t, fakeTree{"t": file(0o600, archive)}, opt, "t")
	same, _ := identify(t, fakeTree{"u": file(0o755, archive).own(1, 2)}, opt, "u")
	if base != same {
		t.Error("name, mode and owner of an archive count")
	}
	other, _ := identify(t, fakeTree{"t": file(0o600, archive+"x")}, opt, "t")
	if base == other {
		t.Error("the content of an archive does not count")
	}
	text, _ := identify(t, fakeTree{"t": file(0o600, "text")}, opt, "t")
	moved, _ := identify(t, fakeTree{"u": file(0o600, "text")}, opt, "u")
	if text == moved {
		t.Error("the name of a file that is not unpacked does not count")
	}
}
