package fileset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// now is the time of what copies make without a source.
var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newPool(t testing.TB) *layer.Pool {
	t.Helper()
	root := t.TempDir()
	p, err := layer.OpenPool(filepath.Join(root, "layers"), func() (string, error) { return root, nil })
	must(t, err)
	return p
}

func newDraft(t testing.TB, p *layer.Pool) *layer.Draft {
	t.Helper()
	d, err := p.Draft()
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// published commits the draft and describes the layer, alone.
func published(t testing.TB, p *layer.Pool, d *layer.Draft) string {
	t.Helper()
	must(t, d.Commit("test"))
	l, err := p.Open("test")
	must(t, err)
	must(t, l.Compare(t.Context(), func(diff layer.Difference) error { return fmt.Errorf("the list is wrong: %v", diff) }))
	s, err := p.Stack([]snapshot.ID{"test"})
	must(t, err)
	return list(t, s)
}

func selection(t testing.TB, tree snapshot.Tree, paths ...string) *Selection {
	t.Helper()
	s, err := Select(t.Context(), tree, Query{Paths: paths})
	must(t, err)
	return s
}

// copied returns the layer that copying makes.
func copied(t testing.TB, base snapshot.Tree, from []From, opt CopyOptions) (string, error) {
	t.Helper()
	p := newPool(t)
	d := newDraft(t, p)
	opt.Now = now
	if err := Copy(t.Context(), d, base, from, opt); err != nil {
		return "", err
	}
	return published(t, p, d), nil
}

func sourceTree() fakeTree {
	return fakeTree{
		"f":            file(0o640, "f").own(1, 2),
		"g":            file(0o644, "g"),
		"suid":         file(0o6755, "s").own(3, 4).attr(capability, "c"),
		"d":            dir(0o700).own(100, 200).at(time.Unix(1000, 0)),
		"d/in":         file(0o600, "in").own(5, 6),
		"d/sub":        dir(0o1770).own(101, 201).at(time.Unix(2000, 0)),
		"d/sub/file":   file(0o644, "deep").own(102, 202),
		"l":            link("f"),
		"ld":           link("/d"),
		"t":            dir(0o755),
		"t/rel":        link("../f").own(7, 8),
		"t/abs":        link("/nowhere"),
		"t/h1":         file(0o644, "hard").ino(9, 3),
		"t/h2":         file(0o644, "hard").ino(9, 3),
		"t/pipe":       fakeFile{}.kind(snapshot.Fifo, 0, 0),
		"t/null":       fakeFile{}.kind(snapshot.CharDevice, 1, 3),
		"t/loop":       fakeFile{}.kind(snapshot.BlockDevice, 7, 0),
		"t/sock":       fakeFile{}.kind(snapshot.Socket, 0, 0),
		"t/empty":      dir(0o711),
		"t/user":       file(0o644, "u").attr("user.note", "kept"),
		"outside":      file(0o644, "hard").ino(9, 3),
		"whited":       dir(0o755),
		"whited/.wh.f": file(0o644, ""),
		"whiteout":     dir(0o755),
		"whiteout/no":  fakeFile{}.kind(snapshot.CharDevice, 0, 0),
	}
}

func baseTree() fakeTree {
	return fakeTree{
		"app":          dir(0o750).own(500, 600).at(time.Unix(3000, 0)),
		"app/sub":      dir(0o711).own(501, 601).attr("user.base", "b"),
		"app/sub/kept": file(0o644, "kept"),
		"app/in":       file(0o777, "old").own(502, 602),
		"app/d":        dir(0o755),
		"bin":          link("usr/bin"),
		"usr":          dir(0o755).own(1, 1).attr("user.base", "b"),
		"usr/bin":      dir(0o755),
		"var":          dir(0o755),
		"var/run":      link("/run"),
		"run":          dir(0o755),
		"plain":        file(0o644, "plain"),
		"to-plain":     link("/plain"),
		"nothing":      link("made/up"),
		"escape":       link("../../../etc"),
	}
}

const (
	appLine  = "app dir 0750 500:600 2030-01-01T00:00:00Z"
	usrLines = "usr dir 0755 1:1 user.base=\"b\"\nusr/bin dir 0755 0:0 2030-01-01T00:00:00Z"
)

func TestCopy(t *testing.T) {
	for _, tc := range []struct {
		name  string
		paths string
		opt   CopyOptions
		reset bool
		want  string
	}{
		{name: "file to a new name", paths: "f", opt: CopyOptions{Dest: "/x"},
			want: `x file 0640 1:2 "f"`},
		{name: "file of a context", paths: "f", opt: CopyOptions{Dest: "/x"}, reset: true,
			want: `x file 0640 0:0 "f"`},
		{name: "file to the root", paths: "f", opt: CopyOptions{Dest: "/"},
			want: `f file 0640 1:2 "f"`},
		{name: "file into a new directory", paths: "f", opt: CopyOptions{Dest: "/a/b/"},
			want: `a dir 0755 0:0 2030-01-01T00:00:00Z
				a/b dir 0755 0:0 2030-01-01T00:00:00Z
				a/b/f file 0640 1:2 "f"`},
		{name: "file to a name in a new directory", paths: "f", opt: CopyOptions{Dest: "/a/b"},
			want: `a dir 0755 0:0 2030-01-01T00:00:00Z
				a/b file 0640 1:2 "f"`},
		{name: "file into an existing directory", paths: "f", opt: CopyOptions{Dest: "/app"},
			want: appLine + `
				app/f file 0640 1:2 "f"`},
		{name: "file over a file", paths: "f", opt: CopyOptions{Dest: "/app/in"},
			want: appLine + `
				app/in file 0640 1:2 "f"`},
		{name: "a link is followed and gives its name", paths: "l", opt: CopyOptions{Dest: "/a/"},
			want: `a dir 0755 0:0 2030-01-01T00:00:00Z
				a/l file 0640 1:2 "f"`},
		{name: "pattern with one match renames", paths: "su*", opt: CopyOptions{Dest: "/x"},
			want: `x file 6755 3:4 "s" security.capability="c"`},
		{name: "pattern with one match and a slash", paths: "su*", opt: CopyOptions{Dest: "/x/"},
			want: `x dir 0755 0:0 2030-01-01T00:00:00Z
				x/suid file 6755 3:4 "s" security.capability="c"`},
		{name: "two files to one name", paths: "f g", opt: CopyOptions{Dest: "/x"},
			want: `x file 0644 0:0 "g"`},
		{name: "pattern that misses beside a file", paths: "f *.none", opt: CopyOptions{Dest: "/x/"},
			want: `x dir 0755 0:0 2030-01-01T00:00:00Z
				x/f file 0640 1:2 "f"`},
		{name: "contents of a directory to a new one", paths: "d", opt: CopyOptions{Dest: "/x"},
			want: `x dir 0755 0:0 1970-01-01T00:16:40Z
				x/in file 0600 5:6 "in"
				x/sub dir 1770 101:201 1970-01-01T00:33:20Z
				x/sub/file file 0644 102:202 "deep"`},
		{name: "contents through a link", paths: "ld", opt: CopyOptions{Dest: "/x/"},
			want: `x dir 0755 0:0 1970-01-01T00:16:40Z
				x/in file 0600 5:6 "in"
				x/sub dir 1770 101:201 1970-01-01T00:33:20Z
				x/sub/file file 0644 102:202 "deep"`},
		{name: "contents into an existing directory", paths: "d", opt: CopyOptions{Dest: "/app"},
			want: `app dir 0750 500:600 1970-01-01T00:16:40Z
				app/in file 0600 5:6 "in"
				app/sub dir 1770 101:201 1970-01-01T00:33:20Z user.base="b"
				app/sub/file file 0644 102:202 "deep"`},
		{name: "contents to the root", paths: "d", opt: CopyOptions{Dest: "/"},
			want: `in file 0600 5:6 "in"
				sub dir 1770 101:201 1970-01-01T00:33:20Z
				sub/file file 0644 102:202 "deep"`},
		{name: "owner", paths: "d f", opt: CopyOptions{Dest: "/a/x/", Owner: &Owner{300, 400}},
			want: `a dir 0755 300:400 2030-01-01T00:00:00Z
				a/x dir 0755 300:400 2030-01-01T00:00:00Z
				a/x/f file 0640 300:400 "f"
				a/x/in file 0600 300:400 "in"
				a/x/sub dir 1770 300:400 1970-01-01T00:33:20Z
				a/x/sub/file file 0644 300:400 "deep"`},
		{name: "owner and an existing directory", paths: "d", opt: CopyOptions{Dest: "/app/", Owner: &Owner{300, 400}}, reset: true,
			want: `app dir 0750 500:600 1970-01-01T00:16:40Z
				app/in file 0600 300:400 "in"
				app/sub dir 1770 300:400 1970-01-01T00:33:20Z user.base="b"
				app/sub/file file 0644 300:400 "deep"`},
		{name: "octal mode", paths: "d", opt: CopyOptions{Dest: "/a/x", Mode: "4710"},
			want: `a dir 0710 0:0 2030-01-01T00:00:00Z
				a/x dir 0710 0:0 1970-01-01T00:16:40Z
				a/x/in file 4710 5:6 "in"
				a/x/sub dir 4710 101:201 1970-01-01T00:33:20Z
				a/x/sub/file file 4710 102:202 "deep"`},
		{name: "symbolic mode", paths: "d", opt: CopyOptions{Dest: "/x", Mode: "u=rwX,go=rX"},
			want: `x dir 0755 0:0 1970-01-01T00:16:40Z
				x/in file 0644 5:6 "in"
				x/sub dir 1755 101:201 1970-01-01T00:33:20Z
				x/sub/file file 0644 102:202 "deep"`},
		{name: "nothing matches", paths: "*.none *.nil", opt: CopyOptions{Dest: "/x/"}, want: ""},
		{name: "through a relative link", paths: "f", opt: CopyOptions{Dest: "/bin/"},
			want: usrLines + `
				usr/bin/f file 0640 1:2 "f"`},
		{name: "through a link without a slash", paths: "f", opt: CopyOptions{Dest: "/bin"},
			want: usrLines + `
				usr/bin/f file 0640 1:2 "f"`},
		{name: "through an absolute link", paths: "f", opt: CopyOptions{Dest: "/var/run/x/y"},
			want: `run dir 0755 0:0 2030-01-01T00:00:00Z
				run/x dir 0755 0:0 2030-01-01T00:00:00Z
				run/x/y file 0640 1:2 "f"`},
		{name: "over what a link names", paths: "f", opt: CopyOptions{Dest: "/to-plain"},
			want: `plain file 0640 1:2 "f"`},
		{name: "where a link to nothing leads", paths: "f", opt: CopyOptions{Dest: "/nothing/"},
			want: `made dir 0755 0:0 2030-01-01T00:00:00Z
				made/up dir 0755 0:0 2030-01-01T00:00:00Z
				made/up/f file 0640 1:2 "f"`},
		{name: "no link leads out", paths: "f", opt: CopyOptions{Dest: "/escape/passwd"},
			want: `etc dir 0755 0:0 2030-01-01T00:00:00Z
				etc/passwd file 0640 1:2 "f"`},
		{name: "everything there is", paths: "t", opt: CopyOptions{Dest: "/t"},
			want: `t dir 0755 0:0
				t/abs link 0777 0:0 -> /nowhere
				t/empty dir 0711 0:0
				t/h1 file 0644 0:0 "hard"
				t/h2 file 0644 0:0 same as t/h1
				t/loop block 0000 0:0 7:0
				t/null char 0000 0:0 1:3
				t/pipe fifo 0000 0:0
				t/rel link 0777 7:8 -> ../f
				t/sock file 0000 0:0 ""
				t/user file 0644 0:0 "u" user.note="kept"`},
		{name: "hard links of different matches", paths: "outside t/h1", opt: CopyOptions{Dest: "/"},
			want: `h1 file 0644 0:0 "hard"
				outside file 0644 0:0 "hard"`},
		{name: "the same thing twice", paths: "d d", opt: CopyOptions{Dest: "/x"},
			want: `x dir 0755 0:0 1970-01-01T00:16:40Z
				x/in file 0600 5:6 "in"
				x/sub dir 1770 101:201 1970-01-01T00:33:20Z
				x/sub/file file 0644 102:202 "deep"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := selection(t, sourceTree(), strings.Fields(tc.paths)...)
			var identified, written []Sum
			id, err := s.Digest(t.Context(), Hash{}, DigestOptions{
				ResetOwner: tc.reset || tc.opt.Owner != nil, Table: appendTo(&identified),
			})
			must(t, err)
			got, err := copied(t, baseTree(), []From{{
				Selection: s, ResetOwner: tc.reset, Expect: &id, Table: appendTo(&written),
			}}, tc.opt)
			must(t, err)
			if diff := cmp.Diff(identified, written); diff != "" {
				t.Errorf("the table is not that of the identity (-identified +copied):\n%s", diff)
			}
			if diff := cmp.Diff(lines(tc.want), got); diff != "" {
				t.Errorf("the layer (-want +got):\n%s", diff)
			}
		})
	}
}

// appendTo returns a table in memory.
func appendTo(sums *[]Sum) func(Sum) error {
	return func(s Sum) error {
		*sums = append(*sums, s)
		return nil
	}
}

func TestCopySources(t *testing.T) {
	context := memory("a", "b/c")
	got, err := copied(t, fakeTree{}, []From{
		{Selection: selection(t, context, "a", "b"), ResetOwner: true},
		{Selection: selection(t, Memory(MemoryFile{Name: "EOF", Mode: 0o644, Data: []byte("here")}), "EOF")},
		{Selection: selection(t, sourceTree(), "f")},
	}, CopyOptions{Dest: "/dst/"})
	must(t, err)
	want := lines(`
		dst dir 0755 0:0 2030-01-01T00:00:00Z
		dst/EOF file 0644 0:0 2030-01-01T00:00:00Z "here"
		dst/a file 0644 0:0 "a"
		dst/c file 0644 0:0 "b/c"
		dst/f file 0640 1:2 "f"`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCopyErrors(t *testing.T) {
	for _, tc := range []struct {
		paths, dest, mode string
		want              string
	}{
		{"d", "/plain", "", "cannot copy to non-directory: /plain"},
		{"d", "/to-plain", "", "cannot copy to non-directory: /plain"},
		{"f", "/plain/", "", "/plain is not a directory"},
		{"f", "/plain/x", "", "/plain is not a directory"},
		{"f", "/plain/x/y", "", "/plain is not a directory"},
		{"d", "/plain/x", "", "/plain is not a directory"},
		{"f", "/x", "99", `invalid mode "99": an octal mode is between 0 and 07777`},
		{"whited", "/x", "", "copy whited/.wh.f: /x/.wh.f: a name that begins with .wh. means a deletion to a layer"},
		{"whiteout", "/x", "", "copy whiteout/no: /x/no: a character device 0:0 means a deletion to a layer"},
	} {
		_, err := copied(t, baseTree(), []From{{Selection: selection(t, sourceTree(), strings.Fields(tc.paths)...)}},
			CopyOptions{Dest: tc.dest, Mode: tc.mode})
		if err == nil || err.Error() != tc.want {
			t.Errorf("copy %s to %s\n got %v\nwant %s", tc.paths, tc.dest, err, tc.want)
		}
	}
}

func TestCopyNeverReplacesKinds(t *testing.T) {
	source := fakeTree{
		"dirs": dir(0o755), "dirs/x": dir(0o755), "dirs/x/y": file(0o644, "y"),
		"files": dir(0o755), "files/x": file(0o644, "x"),
		"x": file(0o644, "x"),
	}
	base := fakeTree{
		"link": dir(0o755), "link/x": link("/elsewhere"), "elsewhere": dir(0o755),
		"file": dir(0o755), "file/x": file(0o644, "x"),
		"dir": dir(0o755), "dir/x": dir(0o755),
	}
	for _, tc := range []struct{ path, dest, want string }{
		{"dirs", "/link", "cannot copy to non-directory: /link/x"},
		{"dirs", "/file", "cannot copy to non-directory: /file/x"},
		{"files", "/dir", "cannot replace the directory /dir/x by the file files/x"},
		{"x", "/dir", "cannot replace the directory /dir/x by the file x"},
	} {
		_, err := copied(t, base, []From{{Selection: selection(t, source, tc.path)}}, CopyOptions{Dest: tc.dest})
		if err == nil || err.Error() != tc.want {
			t.Errorf("copy %s to %s\n got %v\nwant %s", tc.path, tc.dest, err, tc.want)
		}
	}
	// But a file takes the place of a link, and does not follow it.
	got, err := copied(t, base, []From{{Selection: selection(t, source, "x")}}, CopyOptions{Dest: "/link/"})
	must(t, err)
	if diff := cmp.Diff(lines(`link dir 0755 0:0 2030-01-01T00:00:00Z
		link/x file 0644 0:0 "x"`), got); diff != "" {
		t.Error(diff)
	}
}

// TestCopyOntoItself: what one source has put there, the next one finds.
func TestCopyOntoItself(t *testing.T) {
	source := fakeTree{
		"a": dir(0o755), "a/new": dir(0o755), "a/new/x": file(0o644, "a"),
		"b": dir(0o755), "b/new": dir(0o700), "b/new/x": file(0o600, "b"), "b/new/y": file(0o644, "y"),
		"c": dir(0o755), "c/new": file(0o644, "c"),
		"d": dir(0o755), "d/new": dir(0o755), "d/new/x": dir(0o755),
	}
	got, err := copied(t, fakeTree{}, []From{{Selection: selection(t, source, "a", "b")}}, CopyOptions{Dest: "/"})
	must(t, err)
	want := lines(`new dir 0700 0:0
		new/x file 0600 0:0 "b"
		new/y file 0644 0:0 "y"`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, tc := range []struct{ second, want string }{
		{"c", "cannot replace the directory /new by the file c/new"},
		{"d", "cannot copy to non-directory: /new/x"},
	} {
		_, err := copied(t, fakeTree{}, []From{{Selection: selection(t, source, "a", tc.second)}}, CopyOptions{Dest: "/"})
		if err == nil || err.Error() != tc.want {
			t.Errorf("a, then %s: %v, want %s", tc.second, err, tc.want)
		}
	}
}

func TestCopyNoticesChanges(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(fakeTree)
		want   string
	}{
		{"content", func(t fakeTree) { t["d/in"] = file(0o600, "IN").own(5, 6) }, "d/in: changed while it was being read"},
		{"mode", func(t fakeTree) { t["d/sub"] = dir(0o700) }, "d/sub: changed while it was being read"},
		{"new file", func(t fakeTree) { t["d/more"] = file(0o644, "") }, "d/more: changed while it was being read"},
		{"new file at the end", func(t fakeTree) { t["d/z"] = file(0o644, "") }, "d/z: changed while it was being read"},
		{"owner", func(t fakeTree) { t["d/in"] = t["d/in"].own(9, 9) }, "d/in: changed while it was being read"},
		{"renamed file", func(t fakeTree) { t["d/i"] = t["d/in"]; delete(t, "d/in") }, "d/i: changed while it was being read"},
		{"file is gone", func(t fakeTree) { delete(t, "d/in") }, "what was listed before d/sub: changed while it was being read"},
		{"last file is gone", func(t fakeTree) { delete(t, "d/sub/file") }, "something in d: changed while it was being read"},
		{"time", func(t fakeTree) { t["d/in"] = t["d/in"].at(time.Unix(1, 0)) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := sourceTree()
			s := selection(t, tree, "d")
			id, err := s.Digest(t.Context(), Hash{}, DigestOptions{})
			must(t, err)
			tc.change(tree)
			for _, known := range []Identity{id, {Digest: id.Digest}} {
				_, err = copied(t, fakeTree{}, []From{{Selection: s, Expect: &known}}, CopyOptions{Dest: "/x"})
				if errors.Is(err, ErrChanged) != (tc.want != "") {
					t.Errorf("Copy = %v, want %s", err, tc.want)
				}
			}
			_, err = copied(t, fakeTree{}, []From{{Selection: s, Expect: &id}}, CopyOptions{Dest: "/x"})
			if tc.want == "" {
				must(t, err)
				return
			}
			if !errors.Is(err, ErrChanged) || err.Error() != tc.want {
				t.Errorf("Copy = %v, want %s", err, tc.want)
			}
		})
	}
}

func TestCopyOfWhatVanished(t *testing.T) {
	s := selection(t, vanishing{sourceTree()}, "d")
	_, err := copied(t, fakeTree{}, []From{{Selection: s}}, CopyOptions{Dest: "/x"})
	if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "d/in") {
		t.Errorf("Copy = %v", err)
	}
}

// endless is a tree whose files never end; a read cancels the context.
type endless struct {
	fakeTree
	cancel context.CancelFunc
}

func (t endless) Open(string) (io.ReadCloser, error) { return io.NopCloser(t), nil }

func (t endless) Read(p []byte) (int, error) { t.cancel(); return len(p), nil }

func TestCopyCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := selection(t, endless{sourceTree(), cancel}, "f")
	d := newDraft(t, newPool(t))
	if err := Copy(ctx, d, fakeTree{}, []From{{Selection: s}}, CopyOptions{Dest: "/x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Copy = %v", err)
	}
}

func TestMkdir(t *testing.T) {
	for _, tc := range []struct {
		path  string
		owner Owner
		want  string
	}{
		{path: "/", want: ""},
		{path: "/app", owner: Owner{1, 2}, want: ""},
		{path: "/app/", want: ""},
		{path: "/bin", want: ""},
		{path: "/app/new/deep", owner: Owner{1000, 1001}, want: appLine + `
			app/new dir 0755 1000:1001 2030-01-01T00:00:00Z
			app/new/deep dir 0755 1000:1001 2030-01-01T00:00:00Z`},
		{path: "/var/run/x", want: `run dir 0755 0:0 2030-01-01T00:00:00Z
			run/x dir 0755 0:0 2030-01-01T00:00:00Z`},
		{path: "/nothing", want: `made dir 0755 0:0 2030-01-01T00:00:00Z
			made/up dir 0755 0:0 2030-01-01T00:00:00Z`},
	} {
		p := newPool(t)
		d := newDraft(t, p)
		made, err := Mkdir(d, baseTree(), tc.path, tc.owner, now, now)
		if err != nil {
			t.Errorf("Mkdir(%q): %v", tc.path, err)
			continue
		}
		if made != (tc.want != "") {
			t.Errorf("Mkdir(%q) = %v", tc.path, made)
		}
		if diff := cmp.Diff(lines(tc.want), published(t, p, d)); diff != "" {
			t.Errorf("Mkdir(%q) (-want +got):\n%s", tc.path, diff)
		}
	}
	_, err := Mkdir(newDraft(t, newPool(t)), baseTree(), "/plain/x", Owner{}, now, now)
	if err == nil || err.Error() != "/plain is not a directory" {
		t.Errorf("Mkdir beneath a file = %v", err)
	}
}
