package layertar

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// Options change what is written.
type Options struct {
	// Epoch, if set, replaces every time that is later than it, or all of them.
	Epoch *time.Time
	All   bool
	// List, if set, is called by [Write] with each item of the layer as it is, in its
	// order, once it has been written. The content of files is identified by CRC.
	List func(*layer.Listed) error
}

// Write writes the layer d as a tar: directories before what is in them,
// otherwise sorted by name, implied directories and sockets left out. Equal
// layers make equal bytes.
func Write(ctx context.Context, w io.Writer, d *layer.Dir, opt Options) error {
	open := func(name string) (io.ReadCloser, map[string]string, error) { return d.OpenWithXattrs(name) }
	p := newPacker(ctx, w, opt, open, d.Xattrs)
	err := d.Walk(func(name string, it layer.Item) error {
		if strings.HasPrefix(it.Name, whiteoutPrefix) {
			return fmt.Errorf("%s: names that begin with %q mean whiteouts in a layer, and cannot be files of one", name, whiteoutPrefix)
		}
		return p.item(name, it)
	})
	if err != nil {
		return fmt.Errorf("pack layer %s: %w", d.ID(), err)
	}
	return p.close()
}

// item writes an item of a layer, and lists it.
func (p *packer) item(name string, it layer.Item) (err error) {
	p.seen = seen{}
	switch {
	case it.Whiteout:
		err = p.marker(path.Join(path.Dir(name), whiteoutPrefix+it.Name))
	case !it.Implied:
		err = p.entry(name, it.Entry)
	case p.opt.List != nil:
		p.seen.xattrs, err = p.xattrs(name)
	}
	if err == nil && it.Opaque {
		err = p.marker(path.Join(name, opaqueName))
	}
	if err != nil || p.opt.List == nil {
		return err
	}
	l := layer.NewListed(name, it, p.seen.xattrs)
	if it.Kind == snapshot.File {
		l.CRC, l.HasCRC = p.seen.crc, true
	}
	if p.seen.same != "" {
		l = layer.Listed{Path: name, Same: p.seen.same}
	}
	return p.opt.List(&l)
}

// seen is what was learned of an item when it was written.
type seen struct {
	xattrs map[string]string
	same   string // the first name of a file that has several
	crc    uint32
}

// WriteTree writes all of t as a tar, in the order of [Write], without an entry
// for the root.
func WriteTree(ctx context.Context, w io.Writer, t snapshot.Tree, opt Options) error {
	open := func(name string) (io.ReadCloser, map[string]string, error) {
		xattrs, err := t.Xattrs(name)
		if err != nil {
			return nil, nil, err
		}
		f, err := t.Open(name)
		return f, xattrs, err
	}
	p := newPacker(ctx, w, opt, open, t.Xattrs)
	if err := p.tree(t, "."); err != nil {
		return fmt.Errorf("pack files: %w", err)
	}
	return p.close()
}

// packer writes entries to a tar.
type packer struct {
	ctx context.Context
	opt Options
	buf *bufio.Writer
	tar *tar.Writer
	// open opens a regular file and says what its extended attributes are.
	open   func(name string) (io.ReadCloser, map[string]string, error)
	xattrs func(name string) (map[string]string, error)
	copy   []byte
	// linked is the first name of each file that has several.
	linked map[inode]string
	seen   seen
}

type inode struct{ dev, ino uint64 }

func newPacker(ctx context.Context, w io.Writer, opt Options,
	open func(string) (io.ReadCloser, map[string]string, error), xattrs func(string) (map[string]string, error)) *packer {
	buf := bufio.NewWriterSize(w, 64<<10)
	return &packer{
		ctx: ctx, opt: opt, buf: buf, tar: tar.NewWriter(buf),
		open: open, xattrs: xattrs, copy: make([]byte, 128<<10), linked: map[inode]string{},
	}
}

// close ends the archive.
func (p *packer) close() error {
	if err := p.tar.Close(); err != nil {
		return err
	}
	return p.buf.Flush()
}

func (p *packer) tree(t snapshot.Tree, dir string) error {
	entries, err := t.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if err := p.entry(name, e); err != nil {
			return err
		}
		if e.Kind != snapshot.Dir {
			continue
		}
		if err := p.tree(t, name); err != nil {
			return err
		}
	}
	return nil
}

// marker writes an empty file, whose name is all that matters.
func (p *packer) marker(name string) error {
	return p.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o600, ModTime: time.Unix(0, 0),
	})
}

// entry writes the header of e, and the content if there is any.
func (p *packer) entry(name string, e snapshot.Entry) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if e.Kind == snapshot.Socket { // tar has none
		return nil
	}
	hdr := p.header(name, e)
	if e.Nlink > 1 && e.Kind != snapshot.Dir {
		if first, ok := p.linked[inode{e.Dev, e.Ino}]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			hdr.Devmajor, hdr.Devminor = 0, 0
			p.seen.same = first
			return p.writeHeader(name, hdr, nil)
		}
		p.linked[inode{e.Dev, e.Ino}] = name
	}
	if e.Kind != snapshot.File {
		xattrs, err := p.xattrs(name)
		if err != nil {
			return err
		}
		p.seen.xattrs = xattrs
		return p.writeHeader(name, hdr, xattrs)
	}
	f, xattrs, err := p.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p.seen.xattrs = xattrs
	if err := p.writeHeader(name, hdr, xattrs); err != nil {
		return err
	}
	return p.content(name, f, e.Size)
}

func (p *packer) writeHeader(name string, hdr *tar.Header, xattrs map[string]string) error {
	for k, v := range xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[xattrPrefix+xattrEscaper.Replace(k)] = v
	}
	if err := p.tar.WriteHeader(hdr); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *packer) header(name string, e snapshot.Entry) *tar.Header {
	hdr := &tar.Header{Name: name, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, ModTime: e.ModTime}
	if t := p.opt.Epoch; t != nil && (p.opt.All || hdr.ModTime.After(*t)) {
		hdr.ModTime = *t
	}
	if hdr.ModTime.Nanosecond() != 0 {
		hdr.Format = tar.FormatPAX // others round
	}
	switch e.Kind {
	case snapshot.Dir:
		hdr.Typeflag, hdr.Name = tar.TypeDir, name+"/"
	case snapshot.Symlink:
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, e.Link
	case snapshot.CharDevice:
		hdr.Typeflag, hdr.Devmajor, hdr.Devminor = tar.TypeChar, int64(e.Major), int64(e.Minor)
	case snapshot.BlockDevice:
		hdr.Typeflag, hdr.Devmajor, hdr.Devminor = tar.TypeBlock, int64(e.Major), int64(e.Minor)
	case snapshot.Fifo:
		hdr.Typeflag = tar.TypeFifo
	default:
		hdr.Typeflag, hdr.Size = tar.TypeReg, e.Size
	}
	return hdr
}

// content writes the size bytes that the header of name promised.
func (p *packer) content(name string, f io.Reader, size int64) error {
	// Only the Read and Write methods: others come with buffers of their own.
	src := struct{ io.Reader }{io.LimitReader(contextReader{p.ctx, f}, size)}
	var dst io.Writer = p.tar
	if p.opt.List != nil {
		dst = writerFunc(func(b []byte) (int, error) {
			p.seen.crc = layer.CRC(p.seen.crc, b)
			return p.tar.Write(b)
		})
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{dst}, src, p.copy)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("%s: %w", name, errChanged)
	}
	return nil
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

var errChanged = errors.New("the file became shorter while it was read")
