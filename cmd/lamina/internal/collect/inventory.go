package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/snapshot/layer"
	"lamina/solver/local"
	"lamina/solver/travel"
)

// Kind is what sort of thing takes room in a store, or keeps something there.
type Kind string

// The kinds of units, and of what keeps them.
const (
	Layer     Kind = "layer"     // the files of a layer
	Blob      Kind = "blob"      // a part of an image, or a list of files
	Origin    Kind = "origin"    // where a blob can be had
	Record    Kind = "record"    // a file of the build cache
	Mount     Kind = "mount"     // a cache mount
	Git       Kind = "git"       // what was fetched from a Git repository
	Build     Kind = "build"     // a remembered build with its logs
	StatIndex Kind = "statindex" // digests of files of contexts
	Temporary Kind = "temporary" // half-made work, and what killed processes left
	Fixed     Kind = "store"     // directories and lists that every store has
	Other     Kind = "other"     // what is not lamina's

	Image     Kind = "image"     // keeps what an image consists of
	Step      Kind = "step"      // keeps the result of a step
	Base      Kind = "base"      // keeps what a registry answered for a base image
	Download  Kind = "download"  // keeps what ADD fetched
	Container Kind = "container" // keeps what is running
)

// unit is what takes room on the disk, and is removed as a whole.
type unit struct {
	kind  Kind
	name  string // a layer's ID, a digest, …
	path  string // relative to the store
	bytes int64
	made  time.Time // when it got what it has
	by    []*holder // who needs it
	// pinned is set if something that is never removed needs it, or it is such itself.
	pinned bool
	lost   bool // nothing can ever find it again
	fixed  bool // is never removed
}

// holder is what gives units their use. With the last of its holders a unit goes.
type holder struct {
	kind  Kind
	id    string
	title string    // for people: the text of a step, the name of an image
	made  time.Time // zero if nobody knows
	used  time.Time
	units []*unit
	// pinned is set if it is not for us to remove: an image with a name, or what is
	// running.
	pinned bool
	// keys are those of records; result and inputs are their identities.
	keys   []cache.Key
	took   time.Duration
	result digest.Digest
	inputs []digest.Digest
	root   digest.Digest // of an image without a name
	// depth is how many steps it stands on, as far as they are here, and gain the most
	// that could be had if it goes, or one of these, with all that share with it.
	depth int
	gain  int64
}

func (h *holder) needs(u *unit) {
	if u == nil || slices.Contains(h.units, u) {
		return
	}
	h.units = append(h.units, u)
	u.by = append(u.by, h)
	u.pinned = u.pinned || h.pinned
}

// inventory is all that is in a store.
type inventory struct {
	store *cache.Store
	disk  disk
	memo  *account // sizes that are known; nil to measure everything

	total   int64
	units   []*unit
	holders []*holder

	layers  map[string]*unit // by ID
	diffIDs map[string]*unit // by the name that their diff ID gives them
	blobs   map[string]*unit // by the digits of their digest
	origins map[string]*unit
	bundles map[string][]string // of origins: the digits of what they lie in
	broken  []*unit             // records that can never be a hit again
	aliases []string            // links to layers by diff ID
}

// take lists what is in the store, and who needs it. While others use the store
// it is what there was at some time in between.
func take(ctx context.Context, store *cache.Store, memo *account) (*inventory, error) {
	inv := &inventory{
		store: store, memo: memo,
		layers: map[string]*unit{}, diffIDs: map[string]*unit{},
		blobs: map[string]*unit{}, origins: map[string]*unit{}, bundles: map[string][]string{},
	}
	for _, list := range []func() error{
		inv.listLayers, inv.listBlobs, inv.listOrigins, inv.listMounts, inv.listRest, inv.listClaims,
		func() error { return inv.listImages(ctx) },
		func() error { return inv.listRecords(ctx) },
		inv.listBuilds, inv.listGit,
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := list(); err != nil {
			return nil, fmt.Errorf("list what is in the store: %w", err)
		}
	}
	inv.adoptLoose()
	inv.rank()
	return inv, nil
}

// add adds what is at path, which is relative to the store.
func (inv *inventory) add(kind Kind, name, path string) (*unit, error) {
	bytes, changed, err := inv.measure(kind, path)
	if err != nil {
		return nil, err
	}
	u := &unit{kind: kind, name: name, path: path, bytes: bytes, made: changed}
	inv.units = append(inv.units, u)
	inv.total += bytes
	return u, nil
}

func (inv *inventory) measure(kind Kind, path string) (int64, time.Time, error) {
	if inv.memo != nil && (kind == Layer || kind == Mount || kind == Git) {
		return inv.memo.sealed(path)
	}
	return inv.disk.tree(inv.store.Path(path))
}

// addDir adds the directory itself, and returns what is in it.
func (inv *inventory) addDir(path string) ([]fs.DirEntry, error) {
	bytes, changed, err := inv.disk.file(inv.store.Path(path))
	if err != nil {
		return nil, err
	}
	inv.units = append(inv.units, &unit{kind: Fixed, name: path, path: path, bytes: bytes, made: changed, fixed: true, pinned: true})
	inv.total += bytes
	entries, err := os.ReadDir(inv.store.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

func (inv *inventory) listLayers() error {
	entries, err := inv.addDir("layers")
	if err != nil {
		return err
	}
	var last []fs.DirEntry
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), foldPrefix) { // has links to files of the others
			last = append(last, e)
			continue
		}
		if err := inv.addLayer(e); err != nil {
			return err
		}
	}
	for _, e := range last {
		if err := inv.addLayer(e); err != nil {
			return err
		}
	}
	for _, alias := range inv.aliases {
		if target, err := os.Readlink(inv.store.Path("layers", alias)); err == nil && inv.layers[target] != nil {
			inv.diffIDs[alias] = inv.layers[target]
			inv.layers[target].lost = false
		}
	}
	return nil
}

// foldPrefix begins the names of layers that the overlay driver folded of others.
const foldPrefix = "fold-"

// diffIDPrefix begins the names of layers that are called by their diff ID.
const diffIDPrefix = "sha256-"

func (inv *inventory) addLayer(e fs.DirEntry) error {
	name := e.Name()
	if e.Type()&fs.ModeSymlink != 0 {
		inv.aliases = append(inv.aliases, name)
		return nil
	}
	u, err := inv.add(Layer, name, filepath.Join("layers", name))
	if err != nil {
		return err
	}
	inv.layers[name] = u
	// A name that was made up at random is in a record, or nobody knows it.
	u.lost = !strings.Contains(name, "-")
	if strings.HasPrefix(name, diffIDPrefix) {
		inv.diffIDs[name] = u
	}
	return nil
}

func (inv *inventory) listBlobs() error {
	if _, err := inv.addDir("blobs"); err != nil {
		return err
	}
	entries, err := inv.addDir("blobs/sha256")
	if err != nil {
		return err
	}
	for _, e := range entries {
		u, err := inv.add(Blob, "sha256:"+e.Name(), filepath.Join("blobs/sha256", e.Name()))
		if err != nil {
			return err
		}
		inv.blobs[e.Name()] = u
	}
	return nil
}

func (inv *inventory) listOrigins() error {
	entries, err := inv.addDir("origins")
	for _, e := range entries {
		u, err := inv.add(Origin, "sha256:"+e.Name(), filepath.Join("origins", e.Name()))
		if err != nil {
			return err
		}
		u.lost = true // of use only to who has a descriptor of the blob
		inv.origins[e.Name()] = u
		for _, origin := range inv.store.Origins(digest.NewDigestFromEncoded(digest.SHA256, e.Name())) {
			if slot, _, ok := travel.ParseOrigin(origin); ok {
				inv.bundles[e.Name()] = append(inv.bundles[e.Name()], slot.Bundle.Digest.Encoded())
			}
		}
	}
	return err
}

// canBeHad makes h need what tells where the blob of these digits can be had.
func (inv *inventory) canBeHad(h *holder, digits string) {
	h.needs(inv.origins[digits])
	for _, bundle := range inv.bundles[digits] {
		h.needs(inv.origins[bundle])
		h.needs(inv.blobs[bundle])
	}
}

// listMounts lists the cache mounts.
func (inv *inventory) listMounts() error {
	entries, err := inv.addDir("mounts")
	for _, e := range entries {
		u, err := inv.add(Mount, e.Name(), filepath.Join("mounts", e.Name()))
		if err != nil {
			return err
		}
		id, err := os.ReadFile(inv.store.Path("mounts", e.Name(), "id"))
		if err != nil {
			id = nil // one that was put there by hand
		}
		h := inv.hold(&holder{kind: Mount, id: e.Name(), title: strings.TrimSpace(string(id)), used: u.made})
		h.needs(u)
	}
	return err
}

// listGit lists what was fetched from Git repositories.
func (inv *inventory) listGit() error {
	if _, err := os.Lstat(inv.store.Path(local.GitDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, err := inv.addDir(local.GitDir)
	for _, e := range entries {
		u, err := inv.add(Git, e.Name(), filepath.Join(local.GitDir, e.Name()))
		if err != nil {
			return err
		}
		h := inv.hold(&holder{kind: Git, id: strings.TrimSuffix(e.Name(), ".git"), used: u.made})
		h.needs(u)
	}
	return err
}

// listClaims lists what running containers need.
func (inv *inventory) listClaims() error {
	claims, err := inv.store.Claims()
	if err != nil {
		return err
	}
	for _, c := range claims {
		h := inv.hold(&holder{kind: Container, id: c.By, title: c.By, used: time.Now(), pinned: true})
		for _, path := range c.Paths {
			for _, u := range inv.units {
				if u.path == filepath.Clean(path) {
					h.needs(u)
				}
			}
		}
	}
	return nil
}

// hold adds h to the holders.
func (inv *inventory) hold(h *holder) *holder {
	inv.holders = append(inv.holders, h)
	return h
}

// adoptLoose makes holders of the units that nobody needs now, but that could be
// found again: blobs of a pull that failed, say. They are as useful as they are new.
func (inv *inventory) adoptLoose() {
	for _, u := range inv.units {
		if len(u.by) > 0 || u.fixed || u.lost || (u.kind != Blob && u.kind != Layer) {
			continue
		}
		h := inv.hold(&holder{kind: u.kind, id: u.name, made: u.made, used: u.made})
		h.needs(u)
		if u.kind == Blob {
			inv.canBeHad(h, strings.TrimPrefix(u.name, "sha256:"))
		}
	}
}

// unpacked returns the layer with this diff ID, nil if there is none.
func (inv *inventory) unpacked(d digest.Digest) *unit {
	return inv.diffIDs[string(layer.DiffIDName(d))]
}
