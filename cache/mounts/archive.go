package mounts

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
)

// xattrRecord begins the PAX records that hold extended attributes.
const xattrRecord = "SCHILY.xattr."

// Export writes the mount name to w as a tar, whose root is what is mounted. The
// caller must have the mount alone, or nobody else must be writing to it.
func (m Mounts) Export(ctx context.Context, name string, w io.Writer) error {
	data := m.Data(name)
	tree, seen, err := scan(ctx, data, readSums(m.Dir(name)))
	if err != nil {
		return err
	}
	_ = seen.write(m.Dir(name)) // for the next time
	if tree.Entries[0].Kind != Dir {
		return errors.New("it is a single file, not a directory")
	}
	root, err := openRoot(data)
	if err != nil {
		return err
	}
	defer root.Close()
	buf := bufio.NewWriterSize(w, 256<<10)
	tw := tar.NewWriter(buf)
	for _, e := range tree.Entries {
		if err := root.export(ctx, tw, e); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), buf.Flush())
}

// export writes one entry.
func (r *root) export(ctx context.Context, tw *tar.Writer, e Entry) error {
	hdr := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, ModTime: time.Unix(0, e.Time),
		Size: e.Size, Linkname: e.Target, Format: tar.FormatPAX, Typeflag: tar.TypeReg,
	}
	switch e.Kind {
	case Dir:
		hdr.Typeflag, hdr.Name = tar.TypeDir, e.Path+"/"
	case Symlink:
		hdr.Typeflag, hdr.Mode = tar.TypeSymlink, 0o777
	case Link:
		hdr.Typeflag = tar.TypeLink
	}
	for k, v := range e.Xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[xattrRecord+escapeRecord.Replace(k)] = v
	}
	if err := tw.WriteHeader(hdr); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	if e.Kind != File || e.Size == 0 {
		return nil
	}
	f, err := r.open(e)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(tw, io.LimitReader(&contextReader{ctx, f}, e.Size))
	if err == nil && n != e.Size {
		err = ErrBusy
	}
	return err
}

// The name of a PAX record ends at "=".
var (
	escapeRecord   = strings.NewReplacer("%", "%25", "=", "%3D")
	unescapeRecord = strings.NewReplacer("%25", "%", "%3D", "=")
)

// Import makes the mount of this spec of the tar r, which is not compressed: all of
// it, or after an error it is what it was. The caller must have the mount alone,
// unless there is none. The archive may come from anywhere: names that lead out of
// it, or lie behind a link, are errors, and so are devices, sockets and pipes.
func (m Mounts) Import(ctx context.Context, spec Spec, r io.Reader) error {
	return m.replace(spec.Name(), about{Spec: spec}, func(data string) error {
		i := &importer{maker: newMaker(data), tar: tar.NewReader(&contextReader{ctx, r}), kinds: map[string]Kind{}, tree: &Tree{}}
		if err := i.all(ctx, spec); err != nil {
			return err
		}
		return i.finish()
	})
}

// importer makes a mount of a tar.
type importer struct {
	*maker
	tar   *tar.Reader
	kinds map[string]Kind // what was made already
	at    map[string]int  // of directories: where maker has them
	tree  *Tree           // links, which are made at the end
}

// all reads the archive to its end.
func (i *importer) all(ctx context.Context, spec Spec) error {
	i.at = map[string]int{}
	attrs := Attrs{Mode: 0o755}
	if spec.Attrs != nil {
		attrs = *spec.Attrs
	}
	now := time.Now().UnixNano()
	if err := i.dir(Entry{Path: ".", Kind: Dir, Mode: attrs.Mode, UID: attrs.UID, GID: attrs.GID, Time: now}); err != nil {
		return err
	}
	for {
		hdr, err := i.tar.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := i.entry(ctx, hdr); err != nil {
			return fmt.Errorf("%s: %w", hdr.Name, err)
		}
	}
	for _, e := range i.tree.Entries {
		if err := i.symlink(e); err != nil {
			return err
		}
	}
	return nil
}

// entry makes one entry of the archive.
func (i *importer) entry(ctx context.Context, hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	e := Entry{
		Path: path.Clean(hdr.Name), Mode: uint32(hdr.Mode & 0o7777), UID: hdr.Uid, GID: hdr.Gid,
		Time: hdr.ModTime.UnixNano(), Xattrs: xattrsOf(hdr),
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		e.Size = hdr.Size
	case tar.TypeDir:
		e.Kind = Dir
	case tar.TypeSymlink:
		e.Kind, e.Target = Symlink, hdr.Linkname
	case tar.TypeLink:
		e.Kind, e.Target = Link, path.Clean(hdr.Linkname)
	default:
		return errors.New("it is neither a file, a directory nor a link")
	}
	if err := e.check(); err != nil {
		return err
	}
	if e.Path == "." && e.Kind != Dir {
		return errors.New("the root of the archive is no directory")
	}
	if err := i.parents(path.Dir(e.Path)); err != nil {
		return err
	}
	if old, ok := i.kinds[e.Path]; ok && (old != Dir || e.Kind != Dir) {
		return errors.New("it is there twice")
	}
	switch e.Kind {
	case Dir:
		return i.dir(e)
	case Link:
		if first, ok := i.kinds[e.Target]; !ok || first != File {
			return fmt.Errorf("it is another name of %s, which is no file before it", e.Target)
		}
		i.kinds[e.Path] = File
		return i.link(e)
	case Symlink:
		i.kinds[e.Path] = Symlink
		i.tree.Entries = append(i.tree.Entries, e)
		return nil
	}
	i.kinds[e.Path] = File
	return i.file(ctx, e, i.tar)
}

// dir makes a directory, or gives one that is there other attributes.
func (i *importer) dir(e Entry) error {
	if n, ok := i.at[e.Path]; ok {
		i.dirs[n] = e
		return nil
	}
	i.kinds[e.Path], i.at[e.Path] = Dir, len(i.dirs)
	return i.mkdir(e)
}

// parents makes the directories down to name that the archive did not mention.
func (i *importer) parents(name string) error {
	kind, ok := i.kinds[name]
	switch {
	case ok && kind != Dir:
		return fmt.Errorf("%s is no directory", name)
	case ok:
		return nil
	}
	if err := i.parents(path.Dir(name)); err != nil {
		return err
	}
	return i.dir(Entry{Path: name, Kind: Dir, Mode: 0o755, Time: time.Now().UnixNano()})
}

// xattrsOf are the extended attributes that travel.
func xattrsOf(hdr *tar.Header) map[string]string {
	m := map[string]string{}
	for k, v := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrRecord); ok && strings.HasPrefix(name, userXattr) {
			m[unescapeRecord.Replace(name)] = v
		}
	}
	return copyXattrs(m)
}
