package fileset

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layertar"
)

// paxXattr begins the names of PAX records with extended attributes.
const paxXattr = "SCHILY.xattr."

// isArchive tells whether the regular file name of t is a tar archive, compressed
// or not, by reading its first header.
func isArchive(t snapshot.Tree, name string) (bool, error) {
	f, err := t.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, err := layertar.Decompress(f)
	if err != nil {
		return false, nil // whatever it is, it is copied
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil, nil
}

// unpack extracts the archive m into the destination, which is a directory whether
// it ends in a slash or not.
func (c *copier) unpack(ctx context.Context, t snapshot.Tree, m *match, x *identifier) error {
	if err := c.mkdirAll(c.opt.Dest, 0o755); err != nil {
		return err
	}
	dst, err := c.target.resolve(c.opt.Dest)
	if err != nil {
		return err
	}
	f, err := t.Open(m.name)
	if err != nil {
		return readError(m.name, err)
	}
	defer f.Close()
	h := newHashReader(ctx, f)
	if err := c.unpackFrom(h, dst); err != nil {
		return fmt.Errorf("unpack %s: %w", m.name, err)
	}
	// What follows the archive's end belongs to the file's content too.
	if _, err := io.Copy(io.Discard, h); err != nil {
		return fmt.Errorf("read %s: %w", m.name, err)
	}
	xattrs, err := t.Xattrs(m.name)
	if err != nil {
		return readError(m.name, err)
	}
	x.match(m, true)
	return x.file("", true, Sum{
		Name:   m.name,
		Mode:   typeBits(snapshot.File) | m.entry.Mode,
		Digest: withXattrs(h.digest(), xattrs),
	})
}

func (c *copier) unpackFrom(r io.Reader, dst string) error {
	plain, err := layertar.Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.extract(hdr, tr, dst); err != nil {
			return fmt.Errorf("%s: %w", hdr.Name, err)
		}
	}
}

// extract writes one member of an archive beneath dst. Links in the directories
// above it are followed inside the root, and what is in its place makes room.
func (c *copier) extract(hdr *tar.Header, content io.Reader, dst string) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanMember(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // dst is what it is
	}
	at, err := c.place(path.Join("/", dst, name))
	if err != nil {
		return err
	}
	e, err := c.memberEntry(hdr)
	if err != nil {
		return err
	}
	old, err := c.target.lstat(at)
	if err == nil && old.Kind == snapshot.Dir && e.Kind != snapshot.Dir {
		if err := c.target.removeDir(at); err != nil {
			return err
		}
	}
	if hdr.Typeflag == tar.TypeLink {
		return c.extractLink(hdr.Linkname, at, dst)
	}
	xattrs := map[string]string{}
	for k, v := range hdr.PAXRecords {
		if k, ok := strings.CutPrefix(k, paxXattr); ok {
			xattrs[k] = v
		}
	}
	if e.Kind == snapshot.Dir {
		return c.target.mkdir(at, e, xattrs)
	}
	return c.target.put(at, e, xattrs, content)
}

// place returns where the absolute name is to be made, and makes the directories
// above it that the archive did not name.
func (c *copier) place(name string) (string, error) {
	parent, err := c.target.resolve(path.Dir(name))
	if err != nil {
		return "", err
	}
	implied := snapshot.Entry{Kind: snapshot.Dir, Mode: 0o755, ModTime: c.time(time.Time{})}
	if _, err := c.target.mkdirAll(parent, implied); err != nil {
		return "", err
	}
	return path.Join(parent, path.Base(name)), nil
}

// extractLink makes a hard link to another member, or to what was there before.
func (c *copier) extractLink(linkname, at, dst string) error {
	member, err := cleanMember(linkname)
	if err != nil {
		return err
	}
	old := path.Join("/", dst, member)
	parent, err := c.target.resolve(path.Dir(old))
	if err != nil {
		return err
	}
	err = c.target.link(path.Join(parent, path.Base(old)), at)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hard link to %s, which does not exist", linkname)
	}
	return err
}

// memberEntry describes a member of an archive.
func (c *copier) memberEntry(hdr *tar.Header) (snapshot.Entry, error) {
	e := snapshot.Entry{
		Mode:    uint32(hdr.Mode) & 0o7777,
		UID:     hdr.Uid,
		GID:     hdr.Gid,
		Size:    hdr.Size,
		ModTime: hdr.ModTime,
		Link:    hdr.Linkname,
		Major:   uint32(hdr.Devmajor),
		Minor:   uint32(hdr.Devminor),
	}
	if o := c.opt.Owner; o != nil {
		e.UID, e.GID = o.UID, o.GID
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeCont, tar.TypeGNUSparse:
		e.Kind = snapshot.File
	case tar.TypeDir:
		e.Kind = snapshot.Dir
	case tar.TypeSymlink:
		e.Kind = snapshot.Symlink
	case tar.TypeChar:
		e.Kind = snapshot.CharDevice
	case tar.TypeBlock:
		e.Kind = snapshot.BlockDevice
	case tar.TypeFifo:
		e.Kind = snapshot.Fifo
	default:
		return e, fmt.Errorf("unknown type %q of archive member", hdr.Typeflag)
	}
	return e, nil
}

// cleanMember returns a member's name relative to where the archive is unpacked.
func cleanMember(name string) (string, error) {
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errors.New("the name leads out of the archive")
	}
	if clean = strings.TrimLeft(clean, "/"); clean == "" {
		clean = "."
	}
	return clean, nil
}
