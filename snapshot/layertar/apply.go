package layertar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// Apply writes the layer tar r, which is not compressed, to d, and reads r to its
// end. Whatever the archive says, nothing outside of d is touched:
//
//   - Names are relative to the draft; one that climbs above it is an error.
//   - Where an entry is in a directory that this archive made a symbolic link,
//     the link is followed inside the draft, as it would be inside the image.
//     Links of lower layers are not known here: a directory hides them.
//   - Hard links must point to what the archive has.
//   - Of entries with one name the last wins, and a directory that becomes
//     anything else loses its contents.
//
// After an error d is only good for Close.
func Apply(ctx context.Context, d *layer.Draft, r io.Reader) error {
	r = contextReader{ctx, r}
	tr := tar.NewReader(r)
	a := applier{ctx: ctx, draft: d, tar: tr}
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read layer: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.apply(hdr); err != nil {
			return fmt.Errorf("unpack %q: %w", hdr.Name, err)
		}
	}
	// Padding counts in digests, which whoever made r may be computing.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	if a.hardlinks {
		return d.Remove(hardlinkDir)
	}
	return nil
}

// maxFile is the largest file that is unpacked, in bytes. An archive of a few
// hundred could else claim a file of exabytes, all of it one hole.
const maxFile = 1 << 40

type applier struct {
	ctx   context.Context
	draft *layer.Draft
	tar   *tar.Reader
	// hardlinks is set if AUFS left files that others may be links to.
	hardlinks bool
}

func (a *applier) apply(hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(hdr.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	if strings.HasPrefix(name, metaPrefix) && name != opaqueName {
		if path.Dir(name) != hardlinkDir || hdr.Typeflag != tar.TypeReg {
			return nil
		}
		a.hardlinks = true
		return a.entry(name, hdr)
	}
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return errors.New("it is in a directory whose name is that of a whiteout")
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return a.whiteout(path.Clean(dir), hidden)
	}
	return a.entry(name, hdr)
}

// whiteout performs the marker ".wh.<hidden>" in dir.
func (a *applier) whiteout(dir, hidden string) error {
	if whiteoutPrefix+hidden == opaqueName {
		return a.at(path.Join(dir, "."), a.draft.Opaque)
	}
	if strings.HasPrefix(hidden, whiteoutPrefix) { // AUFS's own
		return nil
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("it is a whiteout of nothing")
	}
	return a.at(path.Join(dir, hidden), a.draft.Whiteout)
}

// entry makes what hdr describes.
func (a *applier) entry(name string, hdr *tar.Header) error {
	if hdr.Size > maxFile {
		return fmt.Errorf("its size, %d bytes, is more than any file may have", hdr.Size)
	}
	e := snapshot.Entry{
		Mode:    uint32(hdr.Mode & 0o7777),
		UID:     hdr.Uid,
		GID:     hdr.Gid,
		ModTime: hdr.ModTime,
		Link:    hdr.Linkname,
	}
	var err error
	switch hdr.Typeflag {
	case tar.TypeDir:
		err = a.at(name, func(n string) error { name = n; return a.draft.Mkdir(n, e) })
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		r := contextReader{a.ctx, a.tar} // the holes of a sparse file are not read from anywhere
		err = a.at(name, func(n string) error { name = n; return a.draft.File(n, e, r) })
	case tar.TypeSymlink:
		err = a.at(name, func(n string) error { name = n; return a.draft.Symlink(n, e) })
	case tar.TypeFifo:
		err = a.at(name, func(n string) error { name = n; return a.draft.Fifo(n, e) })
	case tar.TypeChar, tar.TypeBlock:
		return a.device(name, hdr, e)
	case tar.TypeLink:
		return a.link(name, hdr.Linkname)
	case 'V': // GNU: the name of the archive
		return nil
	default:
		return fmt.Errorf("its type %q is not known", hdr.Typeflag)
	}
	if err != nil {
		return err
	}
	return a.xattrs(name, hdr, e)
}

func (a *applier) device(name string, hdr *tar.Header, e snapshot.Entry) error {
	// The kernel has 12 bits for one and 20 for the other.
	if hdr.Devmajor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor < 0 || hdr.Devminor >= 1<<20 {
		return fmt.Errorf("device %d:%d is out of range", hdr.Devmajor, hdr.Devminor)
	}
	e.Kind = snapshot.CharDevice
	if hdr.Typeflag == tar.TypeBlock {
		e.Kind = snapshot.BlockDevice
	}
	e.Major, e.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	err := a.at(name, func(n string) error { name = n; return a.draft.Device(n, e) })
	if err != nil || e.Kind == snapshot.CharDevice && e.Major == 0 && e.Minor == 0 { // a whiteout
		return err
	}
	return a.xattrs(name, hdr, e)
}

func (a *applier) link(name, target string) error {
	old, err := clean(target)
	if err == nil {
		old, err = a.resolve(old)
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	if _, err := a.draft.Lstat(old); err != nil {
		return fmt.Errorf("hard link to %q, which the layer does not have: %w", target, err)
	}
	return a.at(name, func(n string) error { return a.draft.Link(old, n) })
}

func (a *applier) xattrs(name string, hdr *tar.Header, e snapshot.Entry) error {
	var m map[string]string
	for k, v := range hdr.PAXRecords {
		key, ok := strings.CutPrefix(k, xattrPrefix)
		if !ok {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		m[xattrUnescaper.Replace(key)] = v
	}
	if m == nil {
		return nil
	}
	return a.draft.SetAttrs(name, e, m)
}

// at performs do on name, and again on what name resolves to if it is in a
// directory that is a symbolic link. do fails with ELOOP before it does anything.
func (a *applier) at(name string, do func(name string) error) error {
	err := do(name)
	if !errors.Is(err, unix.ELOOP) {
		return err
	}
	resolved, err := a.resolve(name)
	if err != nil {
		return err
	}
	return do(resolved)
}

// resolve follows the links of the draft in all of name but its last part.
func (a *applier) resolve(name string) (string, error) {
	if name == "." {
		return name, nil
	}
	dir, base := path.Split(name)
	dir, err := snapshot.Resolve(a.draft, dir, true)
	return path.Join(dir, base), err
}

// clean returns name, of a tar, as one relative to the root, or "." for that.
func clean(name string) (string, error) {
	name = path.Clean(strings.TrimLeft(name, "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", errors.New("it is outside of the layer")
	}
	return name, nil
}
