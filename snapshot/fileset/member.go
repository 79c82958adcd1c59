package fileset

import (
	"archive/tar"
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	"lamina/snapshot"
)

// paxXattr begins the names of PAX records with extended attributes.
const paxXattr = "SCHILY.xattr."

// memberEntry describes a member of an archive.
func (c *copier) memberEntry(hdr *tar.Header) (snapshot.Entry, error) {
	e := snapshot.Entry{
		Mode:    uint32(hdr.Mode) & 0o7777,
		UID:     hdr.Uid,
		GID:     hdr.Gid,
		Size:    hdr.Size,
		ModTime: boundTime(hdr.ModTime),
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

// boundTime is the beginning of Unix time for a time that 64 bits of nanoseconds
// after it cannot tell: as docker unpacks archives.
func boundTime(t time.Time) time.Time {
	begin := time.Unix(0, 0)
	if t.Before(begin) || t.After(time.Unix(0, math.MaxInt64)) {
		return begin
	}
	return t
}

// memberXattrs are the extended attributes of a member.
func memberXattrs(hdr *tar.Header) map[string]string {
	xattrs := map[string]string{}
	for k, v := range hdr.PAXRecords {
		if k, ok := strings.CutPrefix(k, paxXattr); ok {
			xattrs[k] = v
		}
	}
	return xattrs
}

// cleanMember returns a member's name relative to where the archive is unpacked,
// of which ".." does not lead out.
func cleanMember(name string) string {
	if clean := path.Join("/", name); clean != "/" {
		return clean[1:]
	}
	return "."
}
