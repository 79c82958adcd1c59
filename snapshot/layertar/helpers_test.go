package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		//lint:ignore SA1019 the reader still fills it, with what PAXRecords has too
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
	return opened(t, p, id), nil
}

// opened returns the layer id, whose list must say of its files what they are.
func opened(t testing.TB, p *layer.Pool, id snapshot.ID) *layer.Dir {
	t.Helper()
	l, err := p.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	err = l.Compare(context.Background(), func(diff layer.Difference) error {
		t.Errorf("layer %s: %v", id, diff)
		return nil
	})
	if err != nil {
		t.Errorf("layer %s: %v", id, err)
	}
	return l
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

// checksum sets the checksum of the header that b begins with.
func checksum(b []byte) []byte {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
