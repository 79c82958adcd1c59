package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/cache/mounts"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/cmd/lamina/internal/human"
	"lamina/solver/local"
	"lamina/solver/travel"
)

// mountChoice says which cache mounts go to a cache, or come from one.
type mountChoice struct {
	all bool
	ids []string
	// maxSize is the most bytes that one may have.
	maxSize int64
	// minChange is how much has to change until one is sent again.
	minChange mounts.Threshold
}

// What is not said otherwise.
const (
	maxMountSize   = 5 << 30
	minChangeShare = 0.02
	minChangeBytes = 16 << 20
)

// parseMounts reads mounts=, mounts-max-size= and mounts-min-change=; all says what no
// mounts= means.
func (a attributes) parseMounts(all bool) (c mountChoice, err error) {
	c = mountChoice{all: all, maxSize: maxMountSize, minChange: mounts.Threshold{Share: minChangeShare, Bytes: minChangeBytes}}
	if s, ok := a["mounts"]; ok {
		if c.all, err = strconv.ParseBool(s); err != nil {
			c.ids = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' })
			if len(c.ids) == 0 {
				return c, errors.New("mounts=: want true, false or ids of cache mounts")
			}
		}
	}
	if s, ok := a["mounts-max-size"]; ok {
		var size cli.ByteSize
		if err := size.Set(s); err != nil || size <= 0 {
			return c, fmt.Errorf("mounts-max-size=%s: want a size such as 2g", s)
		}
		c.maxSize = int64(size)
	}
	if s, ok := a["mounts-min-change"]; ok {
		if c.minChange, err = parseThreshold(s); err != nil {
			return c, fmt.Errorf("mounts-min-change=%s: %w", s, err)
		}
	}
	return c, nil
}

// parseThreshold reads "5%" or "64m".
func parseThreshold(s string) (mounts.Threshold, error) {
	if share, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseFloat(share, 64)
		if err != nil || !(n >= 0 && n <= 100) {
			return mounts.Threshold{}, errors.New("want a share such as 5%, or a size")
		}
		return mounts.Threshold{Share: n / 100, Bytes: -1}, nil
	}
	var size cli.ByteSize
	if err := size.Set(s); err != nil || size < 0 {
		return mounts.Threshold{}, errors.New("want a size such as 64m, or a share such as 5%")
	}
	return mounts.Threshold{Share: -1, Bytes: int64(size)}, nil
}

// wants tells whether a mount of this id travels.
func (c mountChoice) wants(id string) bool { return c.all || slices.Contains(c.ids, id) }

// mountOffers are the versions of a cache mount in the caches of --cache-from.
func (b *build) mountOffers(spec mounts.Spec) []mounts.Offer {
	var all []mounts.Offer
	for _, from := range b.caches.from {
		found := b.travelling.imported[from.String()]
		if found == nil || !from.mounts.wants(spec.ID) || found.Mount(spec.Name()) == nil {
			continue
		}
		blobs, err := b.engine.CacheBlobs(from.Place)
		if err != nil {
			continue // it was read a moment ago
		}
		all = append(all, mounts.Offer{Version: found.Mount(spec.Name()), Blobs: blobs, Place: from.String(), MaxSize: from.mounts.maxSize})
	}
	return all
}

// mountExport is the cache mounts that go to one cache.
type mountExport struct {
	*build
	to    cacheTo
	there *travel.Cache // what the cache is now; nil if it is none
	steps *travel.Cache // what is added to it
	say   func(string)
	sent  []*mounts.Bundle
}

// exportMounts adds to steps the cache mounts of this build's steps that are wanted
// and changed. None of them is a reason to fail. The caller must close the result.
func (b *build) exportMounts(ctx context.Context, to cacheTo, steps *travel.Cache, say func(string)) *mountExport {
	x := &mountExport{build: b, to: to, there: b.travelling.imported[to.String()], steps: steps, say: say}
	specs := b.mountSpecs(to.mounts)
	if len(specs) == 0 {
		return x
	}
	if x.there == nil {
		x.there, _ = b.engine.ReadCache(ctx, to.Place) // or there is none yet; who writes it finds out
	}
	for _, spec := range specs {
		x.add(ctx, spec)
	}
	return x
}

// mountSpecs are the mounts of all steps that are wanted, each once.
func (b *build) mountSpecs(choice mountChoice) []mounts.Spec {
	if !choice.all && len(choice.ids) == 0 {
		return nil
	}
	var all []mounts.Spec
	seen, ids := map[string]bool{}, map[string]bool{}
	for _, r := range b.travelling.used.All(b.plan.Graph) {
		for _, spec := range local.CachesOf(r) {
			ids[spec.ID] = true
			if name := spec.Name(); choice.wants(spec.ID) && !seen[name] {
				seen[name] = true
				all = append(all, spec)
			}
		}
	}
	for _, id := range choice.ids {
		if !ids[id] {
			b.display.Warn(fmt.Sprintf("mounts=%s: no step of this build mounts a cache of this id", id))
		}
	}
	return all
}

// add adds one mount: what this machine has, if a step of this build used it and it
// changed enough; else word that what is there is used.
func (x *mountExport) add(ctx context.Context, spec mounts.Spec) {
	name, all := spec.Name(), mounts.In(x.engine.Store)
	there := x.at(x.there, name)
	used, err := mounts.LastUsed(all.Dir(name))
	if err != nil || there != nil && used.Before(x.started) {
		x.keep(there)
		return
	}
	base, blobs := x.base(name)
	opt := mounts.PackOptions{MaxSize: x.to.mounts.maxSize, MinChange: x.to.mounts.minChange, Base: base, Blobs: blobs}
	bundle, err := all.Pack(ctx, name, spec, opt)
	if base != nil && err != nil && ctx.Err() == nil && !errors.Is(err, mounts.ErrBusy) {
		opt.Base = nil // it is lost or damaged: all of it is sent
		bundle, err = all.Pack(ctx, name, spec, opt)
	}
	var replaces digest.Digest
	if there != nil {
		replaces = there.ID
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile
	case errors.Is(err, mounts.ErrBusy):
		x.display.Warn(fmt.Sprintf("cache mount %s is not sent to %s: other builds are writing to it", spec.ID, x.to))
		x.keep(there)
	case err != nil:
		x.display.Warn(fmt.Sprintf("cache mount %s is not sent to %s: %v", spec.ID, x.to, err))
	case bundle.Report.Outcome == mounts.TooLarge:
		x.display.Warn(fmt.Sprintf("cache mount %s is not sent to %s: it has %s, and mounts-max-size is %s",
			spec.ID, x.to, human.Size(bundle.Report.Size), human.Size(opt.MaxSize)))
	case bundle.Report.Outcome == mounts.Unchanged && there == nil:
		x.steps.AddMount(usedNow(base), "", nil) // it lies in this repository, under another name
	case bundle.Report.Outcome == mounts.Unchanged:
		x.keep(there)
	case bundle.Version.Files > 0:
		x.sent = append(x.sent, bundle)
		x.steps.AddMount(bundle.Version, replaces, bundle)
		x.say(fmt.Sprintf("cache mount %s: %d files, %s", spec.ID, bundle.Version.Files, human.Size(bundle.Version.Size)))
	}
}

// at is the version of a mount in a cache, or nil.
func (x *mountExport) at(c *travel.Cache, name string) *mounts.Version {
	if c == nil {
		return nil
	}
	return c.Mount(name)
}

// keep says that what is there is used, so that it stays.
func (x *mountExport) keep(there *mounts.Version) {
	if there != nil {
		x.steps.AddMount(usedNow(there), there.ID, nil)
	}
}

func usedNow(v *mounts.Version) *mounts.Version {
	used := *v
	used.Used = time.Now().UTC().Truncate(time.Second)
	return &used
}

// base is a version whose packs need not be sent again: the one there or, if there is
// none, that of another cache in the same repository.
func (x *mountExport) base(name string) (*mounts.Version, cache.Blobs) {
	v := x.at(x.there, name)
	for _, from := range x.caches.from {
		if v == nil && sameRepository(from.Place, x.to.Place) {
			v = x.at(x.travelling.imported[from.String()], name)
		}
	}
	if v == nil {
		return nil, nil
	}
	blobs, err := x.engine.CacheBlobs(x.to.Place)
	if err != nil {
		return nil, nil
	}
	return v, blobs
}

// sameRepository tells whether what lies at a also lies at b.
func sameRepository(a, b engine.Place) bool {
	return a.Dir == b.Dir && (a.Dir != "" || a.Name.Origin() == b.Name.Origin())
}

// sentAs notes which mounts are what others now find, and says which are not: of
// two machines that replaced the same version, the first did.
func (x *mountExport) sentAs(r travel.Report) {
	for _, b := range x.sent {
		name := b.Version.Spec.Name()
		i := slices.IndexFunc(r.Mounts, func(v *mounts.Version) bool { return v.Spec.Name() == name })
		switch {
		case i < 0:
			x.display.Warn(fmt.Sprintf("cache mount %s was not sent to %s: the registry lost a part of it, and the next build sends all", b.Version.Spec.ID, x.to))
		case r.Mounts[i].ID != b.Version.ID:
			x.say(fmt.Sprintf("cache mount %s: another build was first, and its own stays", b.Version.Spec.ID))
		default:
			_ = mounts.In(x.engine.Store).Sent(name, b.Version) // or it is taken for this machine's own
		}
	}
}

func (x *mountExport) close() {
	for _, b := range x.sent {
		_ = b.Close() // what is left there goes with the process
	}
}
