package collect

import (
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"lamina/cmd/lamina/internal/builds"
)

// buildsDir is where builds are remembered: see package builds.
const buildsDir = "builds"

// listBuilds lists the remembered builds. Each needs the lists of files that its
// steps read, or it could not be explained.
func (inv *inventory) listBuilds() error {
	if !inv.exists(buildsDir) {
		return nil
	}
	entries, err := inv.addDir(buildsDir)
	if err != nil {
		return err
	}
	store := builds.In(inv.store)
	for _, e := range entries {
		u, err := inv.add(Build, e.Name(), filepath.Join(buildsDir, e.Name()))
		if err != nil {
			return err
		}
		h := inv.hold(&holder{kind: Build, id: e.Name(), made: u.made, used: u.made})
		h.needs(u)
		store.BlobsOf(e.Name(), func(d digest.Digest) {
			h.needs(inv.blobs[d.Encoded()])
			inv.canBeHad(h, d.Encoded())
		})
	}
	return nil
}
