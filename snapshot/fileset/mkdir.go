package fileset

import (
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// Mkdir makes the directory path, and those above it, as WORKDIR does: path is
// absolute and looked up through base's links, and what has to be made gets mode
// 0755, owner and the time t; the directory that it is made in is changed now. It
// tells whether anything had to be made; if not, the draft is unchanged.
func Mkdir(
	d *layer.Draft, base snapshot.Tree, path string, owner Owner, t, now time.Time,
) (made bool, err error) {
	target := newTarget(d, base, now)
	name, err := target.resolve(path)
	if err != nil {
		return false, err
	}
	return target.mkdirAll(name, snapshot.Entry{
		Kind: snapshot.Dir, Mode: 0o755, UID: owner.UID, GID: owner.GID, ModTime: t,
	}, owner != Owner{})
}
