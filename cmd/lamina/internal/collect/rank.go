package collect

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
)

// rank settles how useful each holder is. A step is as useful as the latest use of
// anything that was built on it, even if it was not asked for itself: without it, what
// is above could not be found or made again. Holders are sorted, the least useful
// first; of equally useful ones those that stand on the others.
func (inv *inventory) rank() {
	makers := map[digest.Digest][]*holder{}
	for _, h := range inv.holders {
		if h.result != "" {
			makers[h.result] = append(makers[h.result], h)
		}
	}
	byUse := slices.Clone(inv.holders)
	slices.SortStableFunc(byUse, func(a, b *holder) int { return b.used.Compare(a.used) })
	// Whoever is reached first is reached from the latest use.
	reached := map[*holder]bool{}
	var reach func(h *holder, from *holder)
	reach = func(h, from *holder) {
		if reached[h] {
			return
		}
		reached[h] = true
		h.used = latest(h.used, from.used)
		for _, in := range h.inputs {
			for _, maker := range makers[in] {
				reach(maker, from)
			}
		}
	}
	for _, h := range byUse {
		reach(h, h)
	}
	depths := map[*holder]bool{}
	var depth func(h *holder) int
	depth = func(h *holder) int {
		if depths[h] { // known, or a circle that no honest record makes
			return h.depth
		}
		depths[h] = true
		h.gain = h.private()
		for _, in := range h.inputs {
			for _, maker := range makers[in] {
				h.depth = max(h.depth, depth(maker)+1)
				h.gain = max(h.gain, maker.gain)
			}
		}
		return h.depth
	}
	for _, h := range inv.holders {
		depth(h)
	}
	slices.SortFunc(inv.holders, func(a, b *holder) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(b.depth, a.depth), cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
}

// private is what h takes and nothing that is never removed needs.
func (h *holder) private() (sum int64) {
	for _, u := range h.units {
		if !u.pinned {
			sum += u.bytes
		}
	}
	return sum
}
