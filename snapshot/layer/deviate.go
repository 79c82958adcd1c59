package layer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"lamina/snapshot"
)

// Deviations compares two layers that the same operation made on the same base, and
// calls fn with each file that the second makes otherwise than the first; the first
// error of fn ends it and is returned. What counts is what a process would see, so
// layers that say the same in different words do not differ. With times the
// modification times of files count, too; those of directories change with what is
// in them, and never do.
func (p *Pool) Deviations(ctx context.Context, base []snapshot.ID, first, second snapshot.ID, times bool, fn func(Difference) error) error {
	d := deviations{ctx: ctx, times: times, fn: fn}
	for i, id := range []snapshot.ID{first, second} {
		var err error
		if d.layers[i], err = p.Open(id); err != nil {
			return err
		}
		if d.stacks[i], err = p.Stack(append(slices.Clone(base), id)); err != nil {
			return err
		}
	}
	if _, err := d.file("."); err != nil {
		return err
	}
	return d.dir(".", false)
}

type deviations struct {
	ctx    context.Context
	layers [2]*Dir
	stacks [2]*Stack
	times  bool
	fn     func(Difference) error
}

// dir compares the directory name and what is in it: what one of the layers speaks
// of, or, with all, everything.
func (d *deviations) dir(name string, all bool) error {
	if err := d.ctx.Err(); err != nil {
		return context.Cause(d.ctx)
	}
	names, opaque, err := d.spoken(name)
	if err != nil {
		return err
	}
	if all = all || opaque; all {
		if names, err = d.seen(name); err != nil {
			return err
		}
	}
	for _, base := range names {
		child := join(name, base)
		deeper, err := d.file(child)
		if err != nil {
			return err
		}
		if deeper {
			if err := d.dir(child, all); err != nil {
				return err
			}
		}
	}
	return nil
}

// spoken are the names in a directory that one of the layers speaks of, and whether
// one of them alone hides what lies below.
func (d *deviations) spoken(name string) (names []string, opaque bool, err error) {
	for _, l := range d.layers {
		it, err := l.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (it.Whiteout || it.Kind != snapshot.Dir) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if it.Opaque {
			opaque = !opaque
		}
		items, err := l.ReadDir(name)
		if err != nil {
			return nil, false, err
		}
		for _, it := range items {
			names = append(names, it.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), opaque, nil
}

// seen are the names in a directory of either stack.
func (d *deviations) seen(name string) ([]string, error) {
	var names []string
	for _, s := range d.stacks {
		entries, err := s.ReadDir(name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// file compares what both stacks have at name, and tells whether these are
// directories.
func (d *deviations) file(name string) (dirs bool, err error) {
	var e [2]snapshot.Entry
	var there [2]bool
	for i, s := range d.stacks {
		e[i], err = s.Lstat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		there[i] = err == nil && e[i].Kind != snapshot.Socket // of which no image knows
	}
	switch {
	case !there[0] && !there[1]:
		return false, nil
	case !there[1]:
		return false, d.fn(Difference{name, "is missing"})
	case !there[0]:
		return false, d.fn(Difference{name, "is new"})
	case e[0].Kind != snapshot.Dir && e[0].Ino != 0 && e[0].Dev == e[1].Dev && e[0].Ino == e[1].Ino:
		return false, nil // the base's
	}
	what := d.attributes(e[0], e[1])
	if what == "" {
		what, err = d.contents(name, e[0])
	}
	if err == nil && what == "" {
		what, err = d.xattrs(name)
	}
	if err == nil && what != "" {
		err = d.fn(Difference{name, what})
	}
	return e[0].Kind == snapshot.Dir && e[1].Kind == snapshot.Dir, err
}

// attributes says how b differs from a; empty if it does not.
func (d *deviations) attributes(a, b snapshot.Entry) string {
	switch {
	case a.Kind != b.Kind:
		return fmt.Sprintf("is a %s, and was a %s", kindName(b.Kind), kindName(a.Kind))
	case a.Mode != b.Mode && a.Kind != snapshot.Symlink:
		return fmt.Sprintf("has mode %04o, and had %04o", b.Mode, a.Mode)
	case a.UID != b.UID || a.GID != b.GID:
		return fmt.Sprintf("belongs to %d:%d, and belonged to %d:%d", b.UID, b.GID, a.UID, a.GID)
	case a.Link != b.Link:
		return fmt.Sprintf("leads to %s, and led to %s", b.Link, a.Link)
	case a.Major != b.Major || a.Minor != b.Minor:
		return fmt.Sprintf("is device %d:%d, and was %d:%d", b.Major, b.Minor, a.Major, a.Minor)
	case a.Size != b.Size:
		return fmt.Sprintf("has %d bytes, and had %d", b.Size, a.Size)
	case d.times && a.Kind != snapshot.Dir && !a.ModTime.Equal(b.ModTime):
		const layout = "2006-01-02 15:04:05.999999999"
		return fmt.Sprintf("is from %s, and was from %s", b.ModTime.UTC().Format(layout), a.ModTime.UTC().Format(layout))
	}
	return ""
}

func kindName(k snapshot.Kind) string {
	switch k {
	case snapshot.Dir:
		return "directory"
	case snapshot.Symlink:
		return "link"
	case snapshot.CharDevice:
		return "character device"
	case snapshot.BlockDevice:
		return "block device"
	case snapshot.Fifo:
		return "pipe"
	}
	return "file"
}

// contents says where the contents of a file, which are of one size, differ.
func (d *deviations) contents(name string, e snapshot.Entry) (string, error) {
	if e.Kind != snapshot.File || e.Size == 0 {
		return "", nil
	}
	a, err := d.stacks[0].Open(name)
	if err != nil {
		return "", err
	}
	defer a.Close()
	b, err := d.stacks[1].Open(name)
	if err != nil {
		return "", err
	}
	defer b.Close()
	at, err := firstDifference(d.ctx, a, b)
	if err != nil || at < 0 {
		return "", err
	}
	return fmt.Sprintf("has other content, from byte %d on", at), nil
}

// firstDifference is the position of the first byte in which a and b differ; -1 if
// there is none.
func firstDifference(ctx context.Context, a, b io.Reader) (int64, error) {
	const block = 64 << 10
	x, y := bufio.NewReaderSize(a, block), bufio.NewReaderSize(b, block)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return 0, context.Cause(ctx)
		}
		p, err := x.Peek(block)
		q, err2 := y.Peek(block)
		for i := range min(len(p), len(q)) {
			if p[i] != q[i] {
				return at + int64(i), nil
			}
		}
		switch {
		case len(p) != len(q):
			return at + int64(min(len(p), len(q))), nil
		case err == io.EOF && err2 == io.EOF:
			return -1, nil
		case err != nil || err2 != nil:
			return 0, errors.Join(err, err2)
		}
		at += block
		x.Discard(block)
		y.Discard(block)
	}
}

// xattrs says which extended attribute of name differs.
func (d *deviations) xattrs(name string) (string, error) {
	a, err := d.stacks[0].Xattrs(name)
	if err != nil {
		return "", err
	}
	b, err := d.stacks[1].Xattrs(name)
	if err != nil {
		return "", err
	}
	var differ []string
	for key, value := range a {
		if now, ok := b[key]; !ok || now != value {
			differ = append(differ, key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			differ = append(differ, key)
		}
	}
	if len(differ) == 0 {
		return "", nil
	}
	slices.Sort(differ)
	return "has another attribute " + strings.Join(differ, ", "), nil
}
