// Package layertar turns layers into OCI layer tars (image-spec, layer.md) and back.
//
// [Apply] unpacks an archive into a draft, and [Write] packs a layer; to unpack
// what was packed gives the same layer, with its times, links, owners, devices,
// extended attributes, and names of any bytes. What is packed depends on the
// layer only, so that equal layers have equal digests on every machine.
package layertar

import (
	"context"
	"io"
	"strings"
)

// How a tar says what files cannot (OCI image-spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."         // .wh.<name> hides <name>
	opaqueName     = ".wh..wh..opq" // hides everything below its directory
	metaPrefix     = ".wh..wh."     // otherwise AUFS's own bookkeeping
	hardlinkDir    = ".wh..wh.plnk" // where AUFS keeps files with many names
)

// xattrPrefix begins the PAX records that hold extended attributes.
const xattrPrefix = "SCHILY.xattr."

// The name of a PAX record ends at "=", so that GNU tar and others replace it,
// and the character that says so, in the names of attributes.
var (
	xattrEscaper   = strings.NewReplacer("%", "%25", "=", "%3D")
	xattrUnescaper = strings.NewReplacer("%25", "%", "%3D", "=")
)

// contextReader is r until ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
