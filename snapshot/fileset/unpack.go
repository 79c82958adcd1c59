package fileset

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layertar"
)

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
	u := unpacker{copier: c, dst: dst, dirs: map[string]bool{}}
	if err := u.unpack(h); err != nil {
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
		Digest: withXattrs(h.Digest(), xattrs),
	})
}

// unpacker extracts one archive. To its members dst is the root: no name and no
// link leads out of it.
type unpacker struct {
	*copier
	dst  string
	dirs map[string]bool // directories that are members, which keep their times
}

func (u *unpacker) unpack(r io.Reader) error {
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
		if err := u.extract(hdr, tr); err != nil {
			return fmt.Errorf("%s: %w", hdr.Name, err)
		}
	}
}

// extract writes one member of the archive. What is in its place makes room.
func (u *unpacker) extract(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader || path.Clean(hdr.Name) == "." {
		return nil // dst is what it is
	}
	name := cleanMember(hdr.Name)
	e, err := u.memberEntry(hdr)
	if err != nil {
		return err
	}
	if name == "." { // "/" or ".."
		return u.extractRoot(hdr, e)
	}
	at, err := u.place(name)
	if err != nil {
		return err
	}
	old, err := u.target.lstat(at)
	exists := err == nil
	if exists && old.Kind == snapshot.Dir && e.Kind != snapshot.Dir {
		if err := u.target.removeDir(at); err != nil {
			return err
		}
	}
	if dir := path.Dir(at); !u.dirs[dir] && !(exists && old.Kind == snapshot.Dir && e.Kind == snapshot.Dir) {
		if err := u.target.touch(dir); err != nil {
			return err
		}
	}
	if hdr.Typeflag == tar.TypeLink {
		return u.extractLink(hdr.Linkname, at, e)
	}
	if e.Kind == snapshot.Dir {
		u.dirs[at] = true
		return u.target.mkdir(at, e, memberXattrs(hdr))
	}
	return u.target.put(at, e, memberXattrs(hdr), content)
}

// extractRoot gives dst the attributes of a member that means it by another name
// than ".".
func (u *unpacker) extractRoot(hdr *tar.Header, e snapshot.Entry) error {
	if e.Kind != snapshot.Dir {
		return errors.New("this is the directory that the archive is unpacked in, and can only be a directory")
	}
	u.dirs[u.dst] = true
	return u.target.mkdir(u.dst, e, memberXattrs(hdr))
}

// resolve returns the place in the target that the last component of the member
// name has: links are followed in the directories above it, inside dst.
func (u *unpacker) resolve(name string) (string, error) {
	parent, err := snapshot.Resolve(below{u.target.base, u}, path.Dir(name), true)
	return path.Join(u.dst, parent, path.Base(name)), err
}

// below is the target as the members see it.
type below struct {
	snapshot.Tree
	u *unpacker
}

func (b below) Lstat(name string) (snapshot.Entry, error) {
	return b.u.target.lstat(path.Join(b.u.dst, name))
}

// place returns where the member name is to be made, and makes the directories
// above it that the archive did not name. A link among them must lead somewhere.
func (u *unpacker) place(name string) (string, error) {
	at, err := u.resolve(name)
	if err != nil {
		return "", err
	}
	parent := path.Dir(at)
	if _, err := u.target.lstat(parent); errors.Is(err, fs.ErrNotExist) {
		link, err := u.resolve(path.Dir(name))
		if err != nil {
			return "", err
		}
		if e, err := u.target.lstat(link); err == nil && e.Kind == snapshot.Symlink {
			return "", fmt.Errorf("the link %s above it leads nowhere in the archive's directory", path.Dir(name))
		}
	}
	implied := snapshot.Entry{Kind: snapshot.Dir, Mode: 0o755, ModTime: u.time(time.Time{})}
	_, err = u.target.mkdirAll(parent, implied, true)
	return at, err
}

// extractLink makes a hard link to another member, or to what was there before,
// and gives the file the attributes of e.
func (u *unpacker) extractLink(linkname, at string, e snapshot.Entry) error {
	old, err := u.resolve(cleanMember(linkname))
	if err == nil && old == at {
		err = fs.ErrNotExist // it had to make room
	}
	if err == nil {
		err = u.target.link(old, at)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hard link to %s, which does not exist", linkname)
	}
	if err != nil {
		return err
	}
	return u.target.draft.SetAttrs(at, e, nil)
}
