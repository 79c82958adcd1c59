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
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// onDisk leaves out what no layer promises.
var onDisk = cmpopts.IgnoreFields(snapshot.Entry{}, "Dev", "Ino", "Nlink", "ChangeTime")

// The attributes that a draft is given are those that it has, that its layer
// has, and that a stack shows, whatever this process may do.
func TestAttributes(t *testing.T) {
	entries := []snapshot.Entry{
		{Name: "file", Kind: snapshot.File, Mode: 0o640, UID: 1, GID: 2, ModTime: now, Size: 3},
		{Name: "none", Kind: snapshot.File, Mode: 0, ModTime: now, Size: 3},
		{Name: "suid", Kind: snapshot.File, Mode: 0o6711, UID: 33, GID: 33, ModTime: now, Size: 3},
		{Name: "suid-root", Kind: snapshot.File, Mode: 0o4711, ModTime: now, Size: 3},
		{Name: "huge", Kind: snapshot.File, Mode: 0o600, UID: 1<<32 - 2, GID: 1<<31 + 5, ModTime: now, Size: 3},
		{Name: "mine", Kind: snapshot.File, Mode: 0o2755, UID: os.Getuid(), GID: os.Getgid(), ModTime: now, Size: 3},
		{Name: "dir", Kind: snapshot.Dir, Mode: 0o1777, ModTime: now},
		{Name: "sgid-dir", Kind: snapshot.Dir, Mode: 0o2775, GID: 8, ModTime: now},
		{Name: "no-dir", Kind: snapshot.Dir, Mode: 0, UID: 7, ModTime: now},
		{Name: "link", Kind: snapshot.Symlink, Mode: 0o777, UID: 9, GID: 9, ModTime: now, Link: "/x/../y"},
		{Name: "char", Kind: snapshot.CharDevice, Mode: 0o622, GID: 5, ModTime: now, Major: 5, Minor: 1},
		{Name: "block", Kind: snapshot.BlockDevice, Mode: 0o660, GID: 6, ModTime: now, Major: 259, Minor: 1<<20 - 1},
		{Name: "block-0", Kind: snapshot.BlockDevice, Mode: 0o660, ModTime: now},
		{Name: "fifo", Kind: snapshot.Fifo, Mode: 0o600, UID: 3, ModTime: now},
		{Name: "epoch", Kind: snapshot.File, Mode: 0o600, ModTime: time.Unix(0, 0).UTC(), Size: 3},
		{Name: "old", Kind: snapshot.File, Mode: 0o600, ModTime: time.Unix(-1, 1).UTC(), Size: 3},
		{Name: "odd\xff\n", Kind: snapshot.File, Mode: 0o600, UID: 5, ModTime: now, Size: 3},
		{Name: "base64:x", Kind: snapshot.File, Mode: 0o600, UID: 5, ModTime: now, Size: 3},
	}
	slices.SortFunc(entries, func(a, b snapshot.Entry) int { return strings.Compare(a.Name, b.Name) })
	p := open(t, t.TempDir())
	d := draft(t, p)
	if err := d.Mkdir("in", mode(0o500)); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := put(d, "in/"+e.Name, e); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
	}
	check := func(what string, tree snapshot.Tree) {
		t.Helper()
		got, err := tree.ReadDir("in")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(entries, got, onDisk); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if e, err := tree.Lstat("in"); err != nil || e.Mode != 0o500 || !e.ModTime.Equal(now) {
			t.Errorf("%s: the directory is %+v, %v", what, e, err)
		}
		if s := read(t, tree, "in/none"); s != "abc" {
			t.Errorf("%s: a file of mode 0 has %q", what, s)
		}
	}
	check("draft", d)
	if err := d.Commit("l"); err != nil {
		t.Fatal(err)
	}
	check("stack", stack(t, p, "l"))
}

// put makes e, with the content abc if it is a file.
func put(d *layer.Draft, name string, e snapshot.Entry) error {
	switch e.Kind {
	case snapshot.Dir:
		return d.Mkdir(name, e)
	case snapshot.Symlink:
		return d.Symlink(name, e)
	case snapshot.CharDevice, snapshot.BlockDevice:
		return d.Device(name, e)
	case snapshot.Fifo:
		return d.Fifo(name, e)
	}
	return d.File(name, e, strings.NewReader("abc"))
}

func TestSidecar(t *testing.T) {
	p := open(t, t.TempDir())
	me := snapshot.Entry{Mode: 0o700, UID: os.Getuid(), GID: os.Getgid(), ModTime: now}
	sidecar := func(id snapshot.ID, steps ...step) bool {
		t.Helper()
		got, err := commit(t, p, id, steps...).Sidecar()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if sidecar("plain", func(d *layer.Draft) error { return d.File("a/b", me, strings.NewReader("")) }, whiteout("a/w"), opaque("a")) {
		t.Error("a layer that the disk can hold needs a sidecar")
	}
	foreign := me
	foreign.UID++
	got := sidecar("foreign", func(d *layer.Draft) error { return d.File("a", foreign, strings.NewReader("")) })
	probe := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if want := os.Chown(probe, foreign.UID, foreign.GID) != nil; got != want {
		t.Errorf("a layer with a foreign owner has a sidecar: %v, want %v", got, want)
	}
}

func TestSetAttrs(t *testing.T) {
	p := open(t, t.TempDir())
	d := draft(t, p)
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	attrs := map[string]string{"user.a": "1", "user.b": "\x00\xff", "trusted.c": "3", "security.capability": capability}
	e := snapshot.Entry{Mode: 0o4750, UID: 1, GID: 2, ModTime: now}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(d.File("f", mode(0o600), strings.NewReader("abc")))
	do(d.Link("f", "g"))
	do(d.Mkdir("d", mode(0o700)))
	do(d.Symlink("l", snapshot.Entry{Link: "f", ModTime: now}))
	do(d.Implied("i"))
	do(d.SetAttrs("g", e, attrs))
	do(d.SetAttrs("d", e, map[string]string{"user.a": "1"}))
	do(d.SetAttrs("l", e, map[string]string{"trusted.c": "3", "user.no": "links have none"}))
	do(d.SetAttrs(".", e, nil))
	do(d.SetAttrs("i", e, nil))
	do(d.SetAttrs("d", e, map[string]string{"user.b": "2"}))
	e2 := e
	e2.UID, e2.Mode = 7, 0o755
	do(d.SetAttrs("f", e2, nil)) // keeps the others, which a new owner would take away
	if err := d.SetAttrs("nothing", e, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want fs.ErrNotExist", err)
	}

	check := func(what string, tree snapshot.Tree) {
		t.Helper()
		for name, want := range map[string]struct {
			snapshot.Entry
			xattrs map[string]string
		}{
			"f": {e2, attrs}, "g": {e2, attrs}, "d": {e, map[string]string{"user.b": "2"}},
			"l": {e, map[string]string{"trusted.c": "3"}}, ".": {e, nil}, "i": {e, nil},
		} {
			got, err := tree.Lstat(name)
			do(err)
			if got.Kind == snapshot.Symlink {
				want.Mode = 0o777
			}
			if got.UID != want.UID || got.GID != want.GID || got.Mode != want.Mode || !got.ModTime.Equal(now) {
				t.Errorf("%s: %s is %+v", what, name, got)
			}
			xattrs, err := tree.Xattrs(name)
			do(err)
			if diff := cmp.Diff(want.xattrs, xattrs); diff != "" {
				t.Errorf("%s: attributes of %s (-want +got):\n%s", what, name, diff)
			}
		}
	}
	check("draft", d)
	do(d.Commit("l"))
	check("stack", stack(t, p, "l"))
	l, err := p.Open("l")
	do(err)
	if names, err := l.Implied(); err != nil || len(names) > 0 {
		t.Errorf("implied: %q, %v", names, err)
	}
}

// A directory of attributes that would stop us is no obstacle until it is done.
func TestDirectoryAttributesComeLast(t *testing.T) {
	p := open(t, t.TempDir())
	l := commit(t, p, "a", mkdir("d", 0), file("d/a", "1"), mkdir("d/e", 0o555), file("d/e/b", "2"), mkdir("d", 0), mkdir("s", 0o2777), file("s/x", ""))
	for name, mode := range map[string]uint32{"d": 0, "d/e": 0o555, "s": 0o2777} {
		it, err := l.Lstat(name)
		if err != nil || it.Mode != mode || !it.ModTime.Equal(now) {
			t.Errorf("%s is %o, %v, %v; want %o", name, it.Mode, it.ModTime, err, mode)
		}
	}
	// The directory's group is not its files'.
	if it, err := l.Lstat("s/x"); err != nil || it.GID != 0 || it.Mode != 0o644 {
		t.Errorf("s/x is %+v, %v", it, err)
	}
	if got := show(t, stack(t, p, "a")); !slices.Contains(got, `d/e/b "2"`) {
		t.Errorf("got %q", got)
	}
}

func TestReplace(t *testing.T) {
	kinds := []snapshot.Entry{
		{Kind: snapshot.File}, {Kind: snapshot.Dir}, {Kind: snapshot.Symlink, Link: "x"},
		{Kind: snapshot.CharDevice, Major: 1, Minor: 3}, {Kind: snapshot.Fifo},
	}
	for _, from := range kinds {
		for _, to := range kinds {
			t.Run(fmt.Sprint(from.Kind, " by ", to.Kind), func(t *testing.T) {
				p := open(t, t.TempDir())
				d := draft(t, p)
				old := from
				old.UID, old.GID, old.Mode = 5, 6, 0o700
				to.Mode = 0o640
				steps := []error{put(d, "x", old), d.SetAttrs("x", old, map[string]string{"user.old": "1"})}
				if from.Kind == snapshot.Dir {
					steps = append(steps, put(d, "x/y/z", old))
				}
				steps = append(steps, put(d, "x", to), d.Commit("l"))
				if err := errors.Join(steps...); err != nil {
					t.Fatal(err)
				}
				s := stack(t, p, "l")
				e, err := s.Lstat("x")
				if to.Kind == snapshot.Symlink {
					to.Mode = 0o777
				}
				if err != nil || e.Kind != to.Kind || e.UID != 0 || e.GID != 0 || e.Mode != to.Mode {
					t.Errorf("got %+v, %v", e, err)
				}
				if m, err := s.Xattrs("x"); err != nil || m != nil {
					t.Errorf("attributes of the old one: %v, %v", m, err)
				}
				if _, err := s.Lstat("x/y/z"); (err == nil) != (from.Kind == snapshot.Dir && to.Kind == snapshot.Dir) {
					t.Errorf("what was in it: %v", err)
				}
			})
		}
	}
}

func TestRemove(t *testing.T) {
	p := open(t, t.TempDir())
	d := draft(t, p)
	for _, s := range []step{file("a/b/c", "1"), file("a/d", "1"), symlink("l", "a"), whiteout("a/w"), file("keep", "k")} {
		if err := s(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a/d", "a/d", "a/b", "a/w", "nothing", "nothing/x", "keep/x"} {
		if err := d.Remove(name); err != nil {
			t.Errorf("Remove(%q): %v", name, err)
		}
	}
	if err := d.Remove("l/b"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Remove through a link: got error %v, want ELOOP", err)
	}
	if err := d.Remove("."); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Remove of the root: got error %v, want fs.ErrInvalid", err)
	}
	if err := d.File("a/b/new", mode(0o600), strings.NewReader("n")); err != nil { // the directory, afresh
		t.Fatal(err)
	}
	if err := d.Commit("l"); err != nil {
		t.Fatal(err)
	}
	want := []string{"a/ 755", "a/b/ 755", `a/b/new "n"`, `keep "k"`, "l -> a"}
	if diff := cmp.Diff(want, show(t, stack(t, p, "l"))); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestDraftVanishes(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	d := draft(t, p)
	if err := d.Mkdir("d", mode(0)); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if err := d.File("d/x", mode(0o600), io.MultiReader(strings.NewReader("some"), iotest.ErrReader(boom))); !errors.Is(err, boom) {
		t.Errorf("got error %v, want boom", err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	wantEmpty(t, filepath.Join(root, "tmp"))
	wantEmpty(t, filepath.Join(root, "layers"))
	for what, err := range map[string]error{
		"Commit": d.Commit("l"), "File": d.File("x", mode(0), strings.NewReader("")), "Mkdir": d.Mkdir("x", mode(0)),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close: got error %v, want fs.ErrClosed", what, err)
		}
	}
}

func TestFileContent(t *testing.T) {
	const block = 16 << 10
	zeros, ones := make([]byte, 5*block), bytes.Repeat([]byte{1}, 5*block)
	var files [][]byte
	for _, n := range []int{0, 1, block - 1, block, block + 1, 3*block + 7, 5 * block} {
		files = append(files, zeros[:n], ones[:n], slices.Concat(ones[:n], zeros), slices.Concat(zeros, ones[:n]), slices.Concat(ones[:n], zeros[:2*block], ones, zeros[:n], ones[:3]))
	}
	large := slices.Concat(zeros, ones, zeros, zeros, zeros, ones[:100], zeros, zeros, zeros, zeros, []byte{2})
	files = append(files, large)
	p := open(t, t.TempDir())
	d := draft(t, p)
	for i, data := range files {
		for how, r := range map[string]io.Reader{"whole": bytes.NewReader(data), "halves": iotest.HalfReader(bytes.NewReader(data)), "dataerr": iotest.DataErrReader(bytes.NewReader(data))} {
			name := fmt.Sprint(how, i)
			if err := d.File(name, mode(0o600), r); err != nil {
				t.Fatal(err)
			}
			if got := read(t, d, name); got != string(data) {
				t.Errorf("%s: %d bytes came out as %d others", name, len(data), len(got))
			}
		}
	}
	if err := d.File("stuck", mode(0o600), iotest.TimeoutReader(readNothing{})); !errors.Is(err, io.ErrNoProgress) && !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that reads nothing: %v", err)
	}
}

type readNothing struct{}

func (readNothing) Read([]byte) (int, error) { return 0, nil }

func TestDraftConcurrent(t *testing.T) {
	p := open(t, t.TempDir())
	d := draft(t, p)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 30 {
				dir := fmt.Sprintf("d%d", j)
				name := fmt.Sprintf("%s/f%d", dir, i)
				for _, err := range []error{
					d.Mkdir(dir, mode(0o750)),
					d.File(name, mode(0o600), strings.NewReader(name)),
					d.Link(name, name+"-link"),
				} {
					if err != nil {
						t.Error(err)
					}
				}
				if got := read(t, d, name); got != name {
					t.Errorf("%s has %q", name, got)
				}
			}
		})
	}
	wg.Wait()
	if err := d.Commit("l"); err != nil {
		t.Fatal(err)
	}
	if n := len(show(t, stack(t, p, "l"))); n != 30*(1+8*2) {
		t.Errorf("%d entries", n)
	}
}

// Whiteouts and opaque directories are in the form that overlay reads.
func TestOverlayForm(t *testing.T) {
	p := open(t, t.TempDir())
	l := commit(t, p, "a", whiteout("w"), opaque("d"))
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(l.Path(), "w"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != 0 {
		if sidecar, _ := l.Sidecar(); sidecar {
			t.Skip("the kernel does not let us make whiteouts")
		}
		t.Errorf("the whiteout is %o %d, want a character device 0:0", st.Mode, st.Rdev)
	}
	for _, key := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		buf := make([]byte, 8)
		if n, err := syscall.Getxattr(filepath.Join(l.Path(), "d"), key, buf); err == nil && string(buf[:n]) == "y" {
			return
		}
	}
	if sidecar, _ := l.Sidecar(); sidecar {
		t.Skip("the filesystem does not have the attribute")
	}
	t.Error("the opaque directory does not have overlay's attribute")
}
