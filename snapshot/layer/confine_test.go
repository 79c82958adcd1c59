package layer_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
)

// Nothing is written through a link, wherever it leads and whatever the method.
func TestConfined(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(root, "outside")
	if err := os.MkdirAll(filepath.Join(outside, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, root)
	d := draft(t, p)
	e := mode(0o644)
	methods := map[string]func(name string) error{
		"Mkdir":    func(n string) error { return d.Mkdir(n, e) },
		"File":     func(n string) error { return d.File(n, e, strings.NewReader("bad")) },
		"Symlink":  func(n string) error { return d.Symlink(n, snapshot.Entry{Link: "bad"}) },
		"Fifo":     func(n string) error { return d.Fifo(n, e) },
		"Device":   func(n string) error { return d.Device(n, snapshot.Entry{Major: 1, Kind: snapshot.CharDevice}) },
		"Link":     func(n string) error { return d.Link("own", n) },
		"Whiteout": d.Whiteout, "Opaque": d.Opaque, "Implied": d.Implied, "Remove": d.Remove,
	}
	links := map[string]string{"abs": outside, "rel": "../../../outside", "dir": ".", "file": filepath.Join(outside, "file"), "proc": "/proc/self/cwd"}
	for method, do := range methods {
		t.Run(method, func(t *testing.T) {
			if err := d.File("own", e, strings.NewReader("own")); err != nil {
				t.Fatal(err)
			}
			for link, target := range links {
				if err := d.Symlink("l/"+link, snapshot.Entry{Link: target}); err != nil {
					t.Fatal(err)
				}
				for _, rest := range []string{"/new", "/file", "/sub", "/sub/new", "/sub/a/b"} {
					if err := do("l/" + link + rest); !errors.Is(err, syscall.ELOOP) {
						t.Errorf("%s through a link: got error %v, want ELOOP", link+rest, err)
					}
				}
			}
			for _, name := range []string{"..", "../outside/file", "/etc/x", "a/../../x", "", "a//b", "a\x00b"} {
				if err := do(name); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("%q: got error %v, want fs.ErrInvalid", name, err)
				}
			}
			// The link itself may be replaced: what it points to stays.
			if err := do("l/file"); err != nil && !errors.Is(err, syscall.ELOOP) {
				t.Errorf("replacing a link: %v", err)
			}
		})
	}
	if err := d.SetAttrs("l/abs/file", e, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SetAttrs through a link: got error %v, want fs.ErrNotExist", err)
	}
	if err := d.Link("l/abs/file", "stolen"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Link through a link: got error %v, want fs.ErrNotExist", err)
	}
	if b, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(b) != "untouched" {
		t.Errorf("the file outside: %q, %v", b, err)
	}
	wantEmpty(t, filepath.Join(outside, "sub"))
}

// A descriptor of a directory that was replaced must not be used.
func TestReplacedDirectory(t *testing.T) {
	root := t.TempDir()
	p := open(t, root)
	d := draft(t, p)
	for _, s := range []step{file("a/b/c/x", "1"), file("ab/x", "1"), symlink("a/b", "../ab")} {
		if err := s(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.File("a/b/c/y", mode(0o600), strings.NewReader("")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("got error %v, want ELOOP", err)
	}
	if err := d.File("ab/y", mode(0o600), strings.NewReader("2")); err != nil {
		t.Error(err)
	}
	want := []string{"a/ 755", "a/b -> ../ab", "ab/ 755", `ab/x "1"`, `ab/y "2"`}
	if diff := cmp.Diff(want, show(t, d)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

// More directories than are kept open, in an order that helps nobody.
func TestManyDirectories(t *testing.T) {
	p := open(t, t.TempDir())
	d := draft(t, p)
	before := openFiles(t)
	for round := range 2 {
		for i := range 300 {
			name := fmt.Sprintf("d%d/e/f%d", i*131%300, round)
			if err := d.File(name, mode(0o600), strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			if err := d.Link(name, fmt.Sprintf("l%d/f%d", i, round)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := openFiles(t) - before; n > 150 {
		t.Errorf("%d files are open", n)
	}
	if err := d.Commit("l"); err != nil {
		t.Fatal(err)
	}
	if n := openFiles(t) - before; n > 2 {
		t.Errorf("%d files are open after Commit", n)
	}
	if n := len(show(t, stack(t, p, "l"))); n != 300*(2+2+1+2) {
		t.Errorf("%d entries", n)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	runtime.GC() // of other tests' pools
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("cannot count open files: ", err)
	}
	return len(entries)
}
