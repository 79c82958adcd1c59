package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// listName is the file beside a layer's files that lists them.
const listName = "list"

// OpenList opens the list of the layer, for [ReadList]. It is fs.ErrNotExist if there is
// none: that of a RUN is made when it is packed, or when somebody needs it (see
// [Pool.CompleteList]). The caller must close it.
func (d *Dir) OpenList() (io.ReadCloser, error) {
	f, err := os.Open(d.pool.path(d.id, listName))
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", d.id, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(f, 64<<10), f}, nil
}

// HasList tells whether the layer has a list, which may be damaged.
func (d *Dir) HasList() bool {
	_, err := os.Lstat(d.pool.path(d.id, listName))
	return err == nil
}

// SetList gives the layer id the list that write writes, atomically.
func (p *Pool) SetList(id snapshot.ID, write func(*ListWriter) error) error {
	tmp, err := p.tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, listName)
	if err := writeList(file, write); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return os.Rename(file, p.path(id, listName))
}

// DropList removes the list of the layer id, which may have none.
func (p *Pool) DropList(id snapshot.ID) error {
	if err := checkID(id); err != nil {
		return err
	}
	err := os.Remove(p.path(id, listName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// writeList writes a list to a file that must not exist yet.
func writeList(file string, write func(*ListWriter) error) error {
	return writeNew(file, func(b *bufio.Writer) error {
		w := NewListWriter(b)
		if err := write(w); err != nil {
			return err
		}
		return w.Close()
	})
}

// MakeList makes a list of the layer id, which reads all its content, unless it has one.
// When ctx ends there is none.
func (p *Pool) MakeList(ctx context.Context, id snapshot.ID) error {
	d, err := p.Open(id)
	if err != nil || d.HasList() {
		return err
	}
	c := comparison{ctx: ctx, dir: d}
	return p.SetList(id, func(w *ListWriter) error {
		c.each = w.Add
		return c.run(nil) // there is nothing to compare it with
	})
}

// CompleteList makes a list of the layer id that has the digest of every regular
// file: a new one, or the one that there is with what it lacked. It reads the files
// whose digests are not known yet. A file that is not what the list says is a
// *DamagedError.
func (p *Pool) CompleteList(ctx context.Context, id snapshot.ID) error {
	d, err := p.Open(id)
	if err != nil {
		return err
	}
	if complete, err := d.listComplete(); complete || err != nil {
		return err
	}
	c := comparison{ctx: ctx, dir: d, digests: true}
	return p.SetList(id, func(w *ListWriter) error {
		c.each = w.Add
		return c.run(func(diff Difference) error { return &DamagedError{ID: id, First: diff} })
	})
}

// listComplete tells whether the layer has a list with all digests.
func (d *Dir) listComplete() (bool, error) {
	f, err := d.OpenList()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	for l, err := range ReadList(f) {
		if errors.Is(err, ErrListDamaged) || err == nil && l.needsDigest() && l.Digest == "" {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func (l *Listed) needsDigest() bool { return l.Kind == snapshot.File && !l.Whiteout && l.Same == "" }

// lister turns the items of a walk into those of a list, without content.
type lister struct {
	xattrs func(name string) (map[string]string, error)
	linked map[inode]string // the first name of each file that has several
}

func (s *lister) list(name string, it Item) (Listed, error) {
	if it.Nlink > 1 && it.Kind != snapshot.Dir && !it.Whiteout {
		at := inode{it.Dev, it.Ino}
		if first, ok := s.linked[at]; ok {
			return Listed{Path: name, Item: Item{Entry: snapshot.Entry{Name: it.Name}}, Same: first}, nil
		}
		if s.linked == nil {
			s.linked = map[inode]string{}
		}
		s.linked[at] = name
	}
	if it.Whiteout {
		return NewListed(name, it, nil), nil
	}
	xattrs, err := s.xattrs(name)
	return NewListed(name, it, xattrs), err
}

// sums reads a file and sets what l says of its content: the CRC-32C always, the
// digest if that is asked for.
func (l *Listed) sums(ctx context.Context, r io.Reader, withDigest bool, buf []byte) error {
	sha := sha256.New()
	l.CRC, l.HasCRC = 0, true
	size := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		l.CRC = CRC(l.CRC, buf[:n])
		if withDigest {
			sha.Write(buf[:n])
		}
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if size != l.Size {
		return fmt.Errorf("%s: the file became another while it was read", l.Path)
	}
	if withDigest {
		l.Digest = digest.NewDigest(digest.SHA256, sha)
	}
	return nil
}

// pull returns the next item of a list, or nil at its end.
func pull(next func() (Listed, error, bool)) (*Listed, error) {
	l, err, ok := next()
	if err != nil || !ok {
		return nil, err
	}
	return &l, nil
}
