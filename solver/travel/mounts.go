package travel

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/mounts"
)

// Cache mounts lie where the cache does, under the same name, each as one version.
// Of two versions of one mount only one can stay, as a whole: files of two machines
// that were never side by side are not mixed. A writer says which version its own
// replaces; if that is not what is there by then, what is there stays, since another
// writer came first, and the packs that are left of the version in between may be gone.

// Bounds of the cache mounts of one cache. Of what is more, the longest unused goes.
const (
	maxMounts      = 100
	maxMountLayers = 1000
)

// mount is a cache mount of a cache.
type mount struct {
	*mounts.Version
	// replaces is the version that this one was made to replace; empty if there was
	// none. Only of mounts that a build adds.
	replaces digest.Digest
	// bundle has the blobs that are new; nil if there are none.
	bundle *mounts.Bundle
}

// AddMount adds a cache mount. It takes the place of the version that is called
// replaces, of none if that is empty, and of no other. bundle has the blobs that lie
// nowhere yet; it is nil if v is what is there already, and only used again.
func (c *Cache) AddMount(v *mounts.Version, replaces digest.Digest, bundle *mounts.Bundle) {
	c.mounts[v.Spec.Name()] = mount{v, replaces, bundle}
}

// Mount returns the cache mount of this name (see [mounts.Spec.Name]), or nil.
func (c *Cache) Mount(name string) *mounts.Version { return c.mounts[name].Version }

// Mounts are the cache mounts, in a fixed order.
func (c *Cache) Mounts() []*mounts.Version {
	var all []*mounts.Version
	for _, name := range slices.Sorted(maps.Keys(c.mounts)) {
		all = append(all, c.mounts[name].Version)
	}
	return all
}

// mountLayers are the blobs of the cache mounts.
func (c *Cache) mountLayers() []ocispec.Descriptor {
	var all []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, v := range c.Mounts() {
		for _, d := range v.Blobs() {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				all = append(all, d)
			}
		}
	}
	return all
}

// readMounts adds the mounts of a document. What makes no sense, or is not all among
// the layers of the manifest, is left out.
func (c *Cache) readMounts(all []*mounts.Version) {
	for _, v := range all {
		if v == nil || v.Check() != nil || !c.holds(v) {
			c.Dropped++
			continue
		}
		if now := time.Now(); v.Used.After(now) {
			v.Used = now
		}
		m := mount{Version: v}
		if old, twice := c.mounts[v.Spec.Name()]; !twice || old.before(m) {
			c.mounts[v.Spec.Name()] = m
		}
	}
}

// before orders versions of a mount that are found side by side, in the same way
// everywhere: the later stays.
func (m mount) before(n mount) bool {
	return cmp.Or(m.Packed.Compare(n.Packed), m.Used.Compare(n.Used), cmp.Compare(m.ID, n.ID)) < 0
}

// holds tells whether the manifest refers to all blobs of v.
func (c *Cache) holds(v *mounts.Version) bool {
	return !slices.ContainsFunc(v.Blobs(), func(d ocispec.Descriptor) bool {
		held, ok := c.held[d.Digest]
		return !ok || held.Size != d.Size
	})
}

// mergeMounts adds the mounts that there and own have, at that time, within bounds.
func (c *Cache) mergeMounts(there, own *Cache, now time.Time) {
	all := maps.Clone(there.mounts)
	for name, m := range own.mounts {
		all[name] = m.over(all[name])
	}
	byUse := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(all[b].Used.Compare(all[a].Used), cmp.Compare(a, b))
	})
	layers := 0
	for _, name := range byUse {
		m := all[name]
		n := len(m.Blobs())
		if now.Sub(m.Used) > maxIdle || len(c.mounts) >= maxMounts || layers+n > maxMountLayers {
			continue
		}
		layers += n
		c.mounts[name] = m
		for _, d := range m.Blobs() {
			c.held[d.Digest] = d
		}
	}
}

// over returns which of two versions of a mount stays: m, which a build adds, or what
// is there.
func (m mount) over(there mount) mount {
	switch {
	case there.Version == nil, there.ID == m.replaces && (there.ID != m.ID || m.anew(there)):
		return m
	case there.ID == m.ID && m.Used.After(there.Used):
		used := *there.Version
		used.Used = m.Used
		there.Version = &used
	}
	return there
}

// anew tells whether m is the same as what is there, but was packed again since that
// cannot be read.
func (m mount) anew(there mount) bool { return m.bundle != nil && m.Packed.After(there.Packed) }

// hasMounts tells whether c has the mounts of own, or what took their places, and
// knows well enough when they were used.
func (c *Cache) hasMounts(own *Cache) bool {
	for name, m := range own.mounts {
		there := c.mounts[name]
		switch {
		case there.Version == nil:
			return false
		case there.ID == m.ID:
			if m.Used.Sub(there.Used) > usedAfter || m.anew(there) {
				return false
			}
		case there.ID == m.replaces:
			return false
		}
	}
	return true
}

// forgetBorrowed removes the mounts of which a part should be elsewhere already.
func (c *Cache) forgetBorrowed() {
	maps.DeleteFunc(c.mounts, func(_ string, m mount) bool {
		return slices.ContainsFunc(m.Blobs(), func(d ocispec.Descriptor) bool { return m.bundle == nil || !m.bundle.Has(d) })
	})
}

// bundleWith is the bundle that has a blob, or nil.
func (c *Cache) bundleWith(d ocispec.Descriptor) *mounts.Bundle {
	for _, m := range c.mounts {
		if m.bundle != nil && m.bundle.Has(d) {
			return m.bundle
		}
	}
	return nil
}
