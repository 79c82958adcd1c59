package layer_test

import (
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// TestModesDespiteUmask: what this process forbids itself is no business of images.
func TestModesDespiteUmask(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077, 0o777} {
		t.Run(fmt.Sprintf("%03o", mask), func(t *testing.T) {
			if mask&0o700 != 0 && os.Geteuid() != 0 {
				t.Skip("an ordinary user could not enter a directory of its own")
			}
			dir := t.TempDir()
			old := unix.Umask(mask)
			defer unix.Umask(old)
			p := open(t, dir)
			modes := []uint32{0, 0o111, 0o400, 0o600, 0o644, 0o664, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o7777}
			d := commit(t, p, "modes", func(d *layer.Draft) error {
				for _, m := range modes {
					e := snapshot.Entry{Mode: m, ModTime: now}
					if err := d.File(fmt.Sprintf("%04o", m), e, strings.NewReader("x")); err != nil {
						return err
					}
				}
				return nil
			})
			for _, m := range modes {
				it, err := d.Lstat(fmt.Sprintf("%04o", m))
				if err != nil || it.Mode != m {
					t.Errorf("mode %04o became %04o, %v", m, it.Mode, err)
				}
			}
		})
	}
}

func TestOpenWithXattrs(t *testing.T) {
	p := open(t, t.TempDir())
	many := map[string]string{}
	for i := range 20 {
		many[fmt.Sprintf("user.attribute-number-%02d", i)] = fmt.Sprint(i)
	}
	attrs := map[string]map[string]string{
		"none": nil, "one": {"user.one": "1"}, "many": many, "foreign": nil, "recorded": {"security.unheard-of": "x"},
	}
	d := commit(t, p, "xattrs", func(d *layer.Draft) error {
		for name, m := range attrs {
			e := snapshot.Entry{Mode: 0o644, ModTime: now}
			if err := d.File(name, e, strings.NewReader("content of "+name)); err != nil {
				return err
			}
			if err := d.SetAttrs(name, e, m); err != nil {
				return err
			}
		}
		// What belongs to this machine is there, but not the image's.
		return unix.Setxattr(d.Path()+"/foreign", "user.overlay.origin", nil, 0)
	})
	for name, want := range attrs {
		f, got, err := d.OpenWithXattrs(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil || string(data) != "content of "+name {
			t.Errorf("%s has %q, %v", name, data, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if same, err := d.Xattrs(name); err != nil || !maps.Equal(got, same) || !maps.Equal(got, want) {
			t.Errorf("%s has %v, want %v as Xattrs says: %v, %v", name, got, want, same, err)
		}
	}
	if _, _, err := d.OpenWithXattrs("missing"); err == nil {
		t.Error("a missing file was opened")
	}
}

// counted counts what is asked of a tree.
type counted struct {
	snapshot.Tree
	asked int
}

func (c *counted) Lstat(name string) (snapshot.Entry, error) {
	c.asked++
	return c.Tree.Lstat(name)
}

// TestPruneLooksIntoNothingNew: a new directory costs one question, whatever is in it.
func TestPruneLooksIntoNothingNew(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "base", func(d *layer.Draft) error { return d.Mkdir("old", snapshot.Entry{Mode: 0o755, ModTime: now}) })
	base, err := p.Stack([]snapshot.ID{"base"})
	if err != nil {
		t.Fatal(err)
	}
	d := draft(t, p)
	for i := range 100 {
		for _, dir := range []string{"new/deep", "old/new"} {
			name := fmt.Sprintf("%s/%d", dir, i)
			if err := d.File(name, snapshot.Entry{Mode: 0o644, ModTime: now}, strings.NewReader("")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Mkdir("new", snapshot.Entry{Mode: 0o755, ModTime: now}); err != nil {
		t.Fatal(err)
	}
	if err := d.Mkdir("old/new", snapshot.Entry{Mode: 0o755, ModTime: now}); err != nil {
		t.Fatal(err)
	}
	below := &counted{Tree: base}
	if err := d.Prune(below); err != nil {
		t.Fatal(err)
	}
	if below.asked > 10 {
		t.Errorf("%d files were looked up below", below.asked)
	}
	for _, dir := range []string{"new/deep", "old/new"} {
		if left, err := d.ReadDir(dir); err != nil || len(left) != 100 {
			t.Errorf("%d files are left in %s: %v", len(left), dir, err)
		}
	}
}
