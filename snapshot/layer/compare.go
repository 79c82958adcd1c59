package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"

	"lamina/snapshot"
)

// Difference is a file that is not what it was.
type Difference struct {
	// Path is the name, relative to the layer's root.
	Path string
	// What is the difference, for people: "is missing", "its content is another".
	What string
}

func (d Difference) String() string { return d.Path + ": " + d.What }

// DamagedError reports a layer whose files are not what they were when it was made.
type DamagedError struct {
	ID    snapshot.ID
	First Difference
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("layer %s is damaged: %s", e.ID, e.First)
}

// Compare compares the layer's files with its list and calls fn with each
// difference; the first error of fn ends it and is returned. It reads all content.
// A layer without a list is fs.ErrNotExist, a list that is damaged itself
// [ErrListDamaged]. What cannot be read is an error.
func (d *Dir) Compare(ctx context.Context, fn func(Difference) error) error {
	f, err := d.OpenList()
	if err != nil {
		return err
	}
	f.Close()
	c := comparison{ctx: ctx, dir: d, strict: true}
	return c.run(fn)
}

// comparison goes through a layer's files and its list side by side.
type comparison struct {
	ctx context.Context
	dir *Dir
	// strict makes a damaged list an error. Otherwise it is as good as none.
	strict bool
	// digests asks for the digest of every file, and each is called with what is
	// then known of each item.
	digests bool
	each    func(*Listed) error

	links lister
	next  func() (Listed, error, bool)
	want  *Listed // the next item of the list; nil if there are no more
	none  bool    // there is no list
	buf   []byte
}

func (c *comparison) run(fn func(Difference) error) error {
	f, err := c.dir.OpenList()
	switch {
	case err == nil:
		defer f.Close()
		next, stop := iter.Pull2(ReadList(f))
		defer stop()
		c.next = next
		if err := c.advance(); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		c.none = true
	default:
		return err
	}
	c.links.xattrs = c.dir.Xattrs
	c.buf = make([]byte, 128<<10)
	err = c.dir.Walk(func(name string, it Item) error {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		have, err := c.links.list(name, it)
		if err != nil {
			return err
		}
		return c.item(&have, fn)
	})
	if err != nil {
		return err
	}
	for c.want != nil {
		if err := c.missing(fn); err != nil {
			return err
		}
	}
	return nil
}

// advance reads the next item of the list.
func (c *comparison) advance() error {
	if c.none {
		return nil
	}
	var err error
	c.want, err = pull(c.next)
	if errors.Is(err, ErrListDamaged) && !c.strict {
		c.none, err = true, nil
	}
	return err
}

func (c *comparison) missing(fn func(Difference) error) error {
	if err := fn(Difference{c.want.Path, "is missing"}); err != nil {
		return err
	}
	return c.advance()
}

// item compares what is there with the list.
func (c *comparison) item(have *Listed, fn func(Difference) error) error {
	for c.want != nil && c.want.Path != have.Path && before(c.want, have) {
		if err := c.missing(fn); err != nil {
			return err
		}
	}
	var want *Listed
	switch {
	case c.none:
	case c.want == nil || c.want.Path != have.Path:
		return fn(Difference{have.Path, "should not be there"})
	default:
		want = c.want
		if what := want.differs(have); what != "" {
			if err := errors.Join(fn(Difference{have.Path, what}), c.advance()); err != nil {
				return err
			}
			return nil
		}
	}
	if have.needsDigest() {
		if err := c.content(have, want, fn); err != nil {
			return err
		}
	}
	if c.each != nil {
		if err := c.each(have); err != nil {
			return err
		}
	}
	return c.advance()
}

// content compares the content of a file with what the list says of it, if that is
// known, and learns what is asked for.
func (c *comparison) content(have, want *Listed, fn func(Difference) error) error {
	if want != nil && c.digests && want.Digest != "" {
		have.Digest, have.CRC, have.HasCRC = want.Digest, want.CRC, want.HasCRC
		return nil
	}
	f, err := c.dir.OpenFile(have.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	needDigest := c.digests || want != nil && !want.HasCRC
	if err := have.sums(c.ctx, f, needDigest, c.buf); err != nil {
		return err
	}
	if want == nil {
		return nil
	}
	if want.HasCRC && want.CRC != have.CRC || want.Digest != "" && needDigest && want.Digest != have.Digest {
		return fn(Difference{have.Path, "its content is another"})
	}
	return nil
}

// differs says in what, but for content, have is not what the list wants.
func (l *Listed) differs(have *Listed) string {
	switch {
	case l.Whiteout != have.Whiteout:
		return "it is no longer what it was"
	case l.Same != have.Same:
		return "it is another file than it was"
	case l.Same != "" || l.Whiteout:
		return ""
	case l.Kind != have.Kind:
		return "it is no longer what it was"
	case l.Size != have.Size:
		return fmt.Sprintf("its size is %d, not %d", have.Size, l.Size)
	case l.Link != have.Link:
		return fmt.Sprintf("it is a link to %q, not %q", have.Link, l.Link)
	case l.Major != have.Major || l.Minor != have.Minor:
		return fmt.Sprintf("it is device %d:%d, not %d:%d", have.Major, have.Minor, l.Major, l.Minor)
	case l.Mode != have.Mode:
		return fmt.Sprintf("its mode is %04o, not %04o", have.Mode, l.Mode)
	case l.UID != have.UID || l.GID != have.GID:
		return fmt.Sprintf("its owner is %d:%d, not %d:%d", have.UID, have.GID, l.UID, l.GID)
	case !l.ModTime.Equal(have.ModTime):
		return fmt.Sprintf("its time is %v, not %v", have.ModTime, l.ModTime)
	case l.Opaque != have.Opaque || l.Implied != have.Implied:
		return "it means another directory"
	case !maps.Equal(l.Xattrs, have.Xattrs):
		return "its extended attributes are others"
	}
	return ""
}
