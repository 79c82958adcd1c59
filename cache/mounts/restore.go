package mounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lamina/cache"
)

// Offer is a version that can be had from elsewhere.
type Offer struct {
	Version *Version
	Blobs   cache.Blobs
	// Place is where it lies, for people.
	Place string
	// MaxSize is the most bytes that a mount may have which comes from there; 0 is no
	// limit.
	MaxSize int64
}

// outdated is how much newer an offer has to be than the last use of a mount that
// came from a cache, until it takes the mount's place.
const outdated = 24 * time.Hour

// RestoreOptions are the options of [Mounts.Restore].
type RestoreOptions struct {
	// Begin is told, if it is not nil, before something is fetched, and Failed of
	// each offer that could not be used.
	Begin  func(Offer)
	Failed func(Offer, error)
}

// Restore makes the mount of spec from the newest of offers, if that is better than
// what is here: if nothing is, or an empty directory; if what is here came from a
// cache and nobody changed it; or if it came from a cache and was not used for a
// day before the offer was packed. What is in use stays, and so does what never came
// from a cache: that is this machine's own. An offer that is too large, damaged or
// gone is passed over. The only errors are ctx's and the store's.
func (m Mounts) Restore(ctx context.Context, spec Spec, offers []Offer, opt RestoreOptions) error {
	if len(offers) == 0 {
		return nil
	}
	name := spec.Name()
	unlock, err := m.store.Lock(ctx, "restore mount "+name)
	if err != nil {
		return err
	}
	defer unlock()
	release := func() {}
	defer func() { release() }()
	if isThere(m.Dir(name)) {
		release, err = m.Alone(ctx, name, false)
		if errors.Is(err, ErrInUse) {
			release = func() {}
			return nil
		}
		if err != nil {
			release = func() {}
			return err
		}
	}
	newest := slices.Clone(offers)
	slices.SortStableFunc(newest, func(a, b Offer) int { return cmp.Compare(b.Version.Packed.Unix(), a.Version.Packed.Unix()) })
	for _, o := range newest {
		if better, err := m.better(ctx, name, o.Version); err != nil || !better {
			return err
		}
		err := m.restore(ctx, name, o, opt)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if opt.Failed != nil {
			opt.Failed(o, err)
		}
	}
	return nil
}

// better tells whether v should take the place of the mount name.
func (m Mounts) better(ctx context.Context, name string, v *Version) (bool, error) {
	dir := m.Dir(name)
	entries, err := os.ReadDir(m.Data(name))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return true, nil
	case err != nil && !errors.Is(err, unix.ENOTDIR): // it may be a file
		return false, err
	}
	a, err := readAbout(dir)
	if err != nil || a.Version == "" || a.Version == v.ID || !v.Packed.After(a.Packed) {
		return false, nil
	}
	if used, err := LastUsed(dir); err == nil && v.Packed.After(used.Add(outdated)) {
		return true, nil
	}
	tree, seen, err := scan(ctx, m.Data(name), readSums(dir))
	if err != nil {
		return false, ctx.Err()
	}
	_ = seen.write(dir)
	id, err := tree.ID()
	return err == nil && id == a.Version, nil
}

// restore makes the mount name of an offer.
func (m Mounts) restore(ctx context.Context, name string, o Offer, opt RestoreOptions) error {
	v := o.Version
	if o.MaxSize > 0 && v.Size > o.MaxSize {
		return fmt.Errorf("it has %d bytes, more than the %d that are allowed", v.Size, o.MaxSize)
	}
	if opt.Begin != nil {
		opt.Begin(o)
	}
	return m.replace(name, about{Spec: v.Spec, Version: v.ID, Packed: v.Packed}, func(data string) error {
		tree, err := v.unpack(ctx, o.Blobs, data)
		if err != nil {
			return err
		}
		return stamps(data, tree).write(filepath.Dir(data))
	})
}

// stamps are the sums of the files at data, which were just made of tree.
func stamps(data string, tree *Tree) sums {
	all, now := sums{}, time.Now().UnixNano()
	for _, e := range tree.Entries {
		var st unix.Stat_t
		if e.Kind != File || unix.Lstat(filepath.Join(data, e.Path), &st) != nil {
			continue
		}
		all[e.Path] = stamp{
			Ino: st.Ino, Size: st.Size, Time: e.Time, Changed: time.Unix(st.Ctim.Unix()).UnixNano(),
			Seen: now, Content: e.Content,
		}
	}
	return all
}
