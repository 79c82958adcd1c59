package travel

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// merge returns what a and b have, within the bounds of a cache at that time. Their
// order matters for cache mounts alone: b's are what is added.
func merge(a, b *Cache, now time.Time) *Cache {
	all := newCache()
	all.join(a)
	all.join(b)
	steps := all.sorted()
	slices.SortStableFunc(steps, func(s, t *step) int { return cmp.Or(t.used.Compare(s.used), cmp.Compare(s.id, t.id)) })
	kept, luggage := newCache(), luggage{bundles: map[digest.Digest]bool{}, loose: map[digest.Digest]bool{}}
	for _, s := range steps {
		more := all.layersOf(s, kept)
		if now.Sub(s.used) > maxIdle || len(kept.steps) >= maxSteps || len(kept.held)+len(more) > maxLayers {
			continue
		}
		kept.add(&step{withParts(s.record, func(d ocispec.Descriptor) bool {
			slot, lies := all.slots[d.Digest]
			if !luggage.takes(d, slot) {
				return false
			}
			if lies {
				kept.slots[d.Digest] = slot
			}
			return true
		}), s.used, s.id, s.keys})
		for _, l := range s.record.Result.Layers {
			list, listed := all.lists[l.DiffID]
			slot, lies := all.slots[list.Digest]
			if make := all.unlisted[l.DiffID]; make != nil && !listed {
				kept.unlisted[l.DiffID] = make
			}
			if listed && luggage.takes(list, slot) {
				kept.lists[l.DiffID] = list
				if lies {
					kept.slots[list.Digest] = slot
				}
			}
		}
		for _, d := range more {
			kept.held[d.Digest] = d
		}
	}
	kept.mergeMounts(a, b, now)
	return kept
}

// layersOf are the layers of s that c holds and kept does not yet.
func (c *Cache) layersOf(s *step, kept *Cache) []ocispec.Descriptor {
	var more []ocispec.Descriptor
	for _, l := range s.record.Result.Layers {
		d, here := c.held[l.Blob.Digest]
		if _, already := kept.held[l.Blob.Digest]; here && !already {
			more = append(more, d)
		}
	}
	return more
}

// has tells whether c has all of own, or newer, and knows well enough when it was
// used.
func (c *Cache) has(own *Cache) bool {
	for id, s := range own.steps {
		there := c.steps[id]
		if there == nil || s.betters(there) || s.used.Sub(there.used) > usedAfter {
			return false
		}
	}
	return c.hasMounts(own)
}

// betters tells whether s is worth writing where t is.
func (s *step) betters(t *step) bool {
	if s.record.Absent != t.record.Absent {
		return t.record.Absent
	}
	return s.record.Created.After(t.record.Created)
}

// layers lists what is held, in a fixed order.
func (c *Cache) layers() []ocispec.Descriptor {
	all := []ocispec.Descriptor{}
	seen := map[digest.Digest]bool{}
	for _, s := range c.sorted() {
		for _, l := range s.record.Result.Layers {
			if d, here := c.held[l.Blob.Digest]; here && !seen[d.Digest] {
				seen[d.Digest] = true
				all = append(all, d)
			}
		}
	}
	return all
}
