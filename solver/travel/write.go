package travel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/mounts"
	"lamina/exporter"
	"lamina/snapshot"
)

// A tag is all that a registry offers to share: whoever writes it last wins, and no
// write can be made to depend on what is there. So a cache has two tags, which stand
// for the same unless somebody is just writing (see [mate]). Writers
//
//	1. read both tags, and add their steps to what these have
//	2. send everything, so that only the tags are left to be set
//	3. ask whether the first tag is still what they read, or else begin again
//	4. set one, and then the other
//	5. wait for longer than anybody needs from 3 to 4
//	6. ask whether both still are what they set, or else see whether both have their steps
//
// Whoever began before 4 and did not see our steps has overwritten them by 6, where
// we notice; whoever began later has them. Reported is only what was found at 6. What
// is set carries a random number, so that nobody mistakes the write of another for
// their own.
//
// That leaves writers that are held up for longer than the wait after 3. Who notices
// asks again before setting anything. Who does not, because the request itself was
// under way for so long, overwrites one tag with what is old, and before they write
// anything else they see the other tag, and merge it back. So what was reported is lost only
// if two writers are held up like that at the same time, one before each tag. With
// n tags it would be n writers; no number of tags is enough for any number of writers,
// and a registry has nothing else to offer.

// patience is how long a writer tries whom others come before. Of many writers one is
// always first, so that each needs about as many tries as there are others.
const patience = 10 * time.Minute

// hurry is after how many tries a writer waits no longer before the next: who came
// first lets those who came later wait.
const hurry = 8

// looks is how often a writer looks whether its steps were lost while others go on writing.
const looks = 12

// Settling of Options.Settle that is zero.
const (
	settle = 500 * time.Millisecond
	// slack is how much slower than we another writer may be.
	slack = 4
)

// errImage is of a tag that the cache cannot have.
var errImage = errors.New("there is an image under this name, which is not overwritten: give the cache a tag of its own, such as cache")

// Options are the options of [Write].
type Options struct {
	// DockerTypes writes docker's media types instead of OCI's.
	DockerTypes bool
	// Alone says that nobody else writes meanwhile: the caller has a lock.
	Alone bool
	// Settle is the least time for which what is written must stand; 0 is usual.
	Settle time.Duration
	// Known is what the name stood for when it was last read; it may be nil.
	Known *Cache
	// Progress is told of every blob.
	Progress cache.Progress
	// Replacing is told, if it is not nil, of what cannot be kept because it cannot
	// be read.
	Replacing func(err error)
}

// Report says what Write did.
type Report struct {
	Root    ocispec.Descriptor // what the name stands for
	Written bool               // false if it had everything
	Steps   int                // that are there now, those of others included
	Old     ocispec.Descriptor // what was replaced; zero if nothing was
	Mounts  []*mounts.Version  // the cache mounts that are there now
}

// Write adds own to the cache that name stands for in dst. Layers that are there are
// not sent, nor are those that dst can take from another repository of its own. Any
// number of writers may do this at the same time. An image is never overwritten.
func Write(ctx context.Context, dst cache.Repository, name string, src cache.Blobs, own *Cache, opt Options) (Report, error) {
	if opt.Settle == 0 {
		opt.Settle = settle
	}
	w := &writer{dst: dst, name: name, src: src, own: own, opt: opt, lost: map[digest.Digest]bool{}, sent: map[digest.Digest]bool{}}
	if opt.Known != nil {
		w.known = opt.Known.tags
	}
	begin := time.Now()
	for try := 0; time.Since(begin) < patience; try++ {
		tried := time.Now()
		report, done, err := w.try(ctx, try == 0)
		if err != nil || done {
			return report, err
		}
		// Those who wait the same time would meet again.
		wait := max(opt.Settle/4, time.Since(tried)) * time.Duration(max(hurry-try, 0)) / (hurry / 2)
		if err := sleep(ctx, jitter(wait)); err != nil {
			return Report{}, err
		}
	}
	return Report{}, fmt.Errorf("others wrote to %s all the time for %v: give some of the builds a name of their own", name, patience)
}

type writer struct {
	dst   cache.Repository
	name  string
	src   cache.Blobs
	own   *Cache
	opt   Options
	known []*Cache               // what was read of the tags last
	lost  map[digest.Digest]bool // layers that the manifests say are there, and are not
	sent  map[digest.Digest]bool // by an earlier try
	// repair says that the tags stood for different things for longer than it takes
	// anybody to write them.
	repair bool
}

// try goes once through the steps above. It is not done if others came between.
func (w *writer) try(ctx context.Context, first bool) (r Report, done bool, err error) {
	there := w.known
	// What was read a while ago is good enough to begin with: 3 will tell.
	if !first || w.opt.Alone || len(there) == 0 || have(there, w.own) {
		if there, err = w.look(ctx); err != nil {
			return r, false, err
		}
		if have(there, w.own) && !w.repair {
			return Report{Root: there[0].Root, Steps: there[0].Steps(), Mounts: there[0].Mounts()}, true, nil
		}
	}
	old := w.union(there)
	all := merge(old, w.own, time.Now())
	r = Report{Written: true, Steps: all.Steps(), Old: there[0].Root, Mounts: all.Mounts()}
	var manifest []byte
	r.Root, manifest, err = w.send(ctx, all, old)
	var begun, set bool
	begin := time.Now()
	if err == nil {
		set, begun, err = w.set(ctx, there, r.Root, manifest)
	}
	if err != nil && ctx.Err() == nil && !begun && len(old.held)+len(w.own.slots)+len(w.own.mounts) > 0 {
		return r, false, w.doubt(ctx, old, err)
	}
	if err != nil || !set || w.opt.Alone {
		return r, set && err == nil, err
	}
	stands, err := w.stands(ctx, r.Root, max(w.opt.Settle, slack*time.Since(begin)))
	return r, stands, err
}

// set sets the tags, unless they are not what they were. It tells whether it did, and
// whether it had begun to.
func (w *writer) set(ctx context.Context, there []*Cache, root ocispec.Descriptor, manifest []byte) (done, begun bool, err error) {
	var checked time.Time
	for i, tag := range w.tags() {
		for !w.opt.Alone && time.Since(checked) > w.opt.Settle {
			now, err := w.resolve(ctx, tag)
			if err != nil || now.Digest != there[i].Root.Digest {
				return false, begun, err
			}
			checked = time.Now()
		}
		if err := w.put(ctx, tag, root, manifest); err != nil {
			return false, begun, err
		}
		begun = true
	}
	return true, begun, nil
}

// put makes a tag stand for a manifest, which may have to be sent yet.
func (w *writer) put(ctx context.Context, tag string, root ocispec.Descriptor, manifest []byte) error {
	if n, ok := w.dst.(exporter.Namer); ok {
		return n.PutNamed(ctx, tag, root, manifest)
	}
	return w.dst.Tag(ctx, tag, root)
}

// stands waits and tells whether what was written was not lost. Who merged it into
// something newer may themselves have been overwritten, so that has to stand, too.
func (w *writer) stands(ctx context.Context, root ocispec.Descriptor, wait time.Duration) (bool, error) {
	different := 0
	for range looks {
		if err := sleep(ctx, wait); err != nil {
			return false, err
		}
		there, err := w.look(ctx)
		if err != nil || !have(there, w.own) {
			return false, err
		}
		switch {
		case there[0].Root.Digest != there[1].Root.Digest:
			// Somebody is between the two tags, or was held up there for long.
			if different++; different > 2 {
				w.repair = true
				return false, nil
			}
		case there[0].Root.Digest == root.Digest:
			return true, nil
		}
		root = there[0].Root
	}
	return true, nil // it was seen each time: there are just many writers
}

// tags are the names that are written, in this order.
func (w *writer) tags() []string {
	if w.opt.Alone {
		return []string{w.name}
	}
	return []string{w.name, mate(w.name)}
}

// look reads what the tags stand for. What is no cache of ours is replaced, unless it
// is an image.
func (w *writer) look(ctx context.Context) ([]*Cache, error) {
	var all []*Cache
	for _, tag := range w.tags() {
		root, err := w.resolve(ctx, tag)
		if err != nil {
			return nil, err
		}
		there, err := w.read(ctx, tag, root, append(all, w.known...))
		if err != nil {
			return nil, err
		}
		all = append(all, there)
	}
	w.known = all
	return all, nil
}

// read reads what a tag stands for, unless that is known.
func (w *writer) read(ctx context.Context, tag string, root ocispec.Descriptor, known []*Cache) (*Cache, error) {
	if root.Digest == "" {
		return newCache(), nil
	}
	there, err := recall(known, root.Digest), error(nil)
	if there == nil {
		there, err = readRoot(ctx, w.dst, root)
	}
	switch {
	case errors.Is(err, ErrNoCache), err == nil && there.Image:
		if tag != w.name {
			return nil, fmt.Errorf("%s: %w", tag, errImage)
		}
		return nil, errImage
	case errors.Is(err, ErrForeign), errors.Is(err, ErrDamaged), errors.Is(err, fs.ErrNotExist):
		w.replacing(err)
		there = newCache()
		there.Root = root
	case err != nil:
		return nil, err
	}
	return there, nil
}

func recall(known []*Cache, root digest.Digest) *Cache {
	for _, c := range known {
		if c.Root.Digest == root {
			return c
		}
	}
	return nil
}

// have tells whether each of these caches has all of own.
func have(all []*Cache, own *Cache) bool {
	return !slices.ContainsFunc(all, func(c *Cache) bool { return !c.has(own) })
}

// union is what any of these caches has, without what is known to be lost.
func (w *writer) union(all []*Cache) *Cache {
	u := newCache()
	for _, c := range all {
		u.join(c)
	}
	if len(w.lost) == 0 {
		return u
	}
	kept := newCache()
	kept.slots, kept.lists, kept.unlisted = u.slots, u.lists, u.unlisted
	for _, s := range u.sorted() {
		if !slices.ContainsFunc(s.record.Result.Layers, func(l snapshot.Layer) bool { return w.lost[l.Blob.Digest] }) {
			kept.add(s)
		}
	}
	for d, blob := range u.held {
		if !w.lost[d] {
			kept.held[d] = blob
		}
	}
	for name, m := range u.mounts {
		if !slices.ContainsFunc(m.Blobs(), func(d ocispec.Descriptor) bool { return w.lost[d.Digest] }) {
			kept.mounts[name] = m
		}
	}
	for d, slot := range u.slots {
		if w.lost[slot.Bundle.Digest] {
			delete(kept.slots, d)
		}
	}
	return kept
}

// doubt finds out whether a write failed because of something that was only said to be
// there. If not, it returns why it failed.
func (w *writer) doubt(ctx context.Context, old *Cache, failed error) error {
	before := len(w.own.mounts)
	w.own.forgetBorrowed()
	found := len(w.own.slots) > 0 || len(w.own.mounts) < before
	w.own.slots = map[digest.Digest]Slot{} // what is here is put into a bundle again
	for _, d := range slices.Concat(old.layers(), old.bundles(), old.mountLayers()) {
		ok, err := w.dst.Has(ctx, d)
		if err != nil {
			return errors.Join(failed, err)
		}
		if !ok {
			w.lost[d.Digest], found = true, true
		}
	}
	if !found {
		return failed
	}
	w.replacing(failed)
	return nil
}

// resolve returns what a tag stands for; nothing is no error.
func (w *writer) resolve(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	d, err := w.dst.Resolve(ctx, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, nil
	}
	return d, err
}

func (w *writer) replacing(err error) {
	if w.opt.Replacing != nil {
		w.opt.Replacing(err)
	}
}

// jitter is a random time of that length on average.
func jitter(d time.Duration) time.Duration {
	return d/2 + mathrand.N(d+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
