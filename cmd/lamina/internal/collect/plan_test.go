package collect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// imagined is an inventory of nothing on any disk: layers and lists of files, shared
// at random by chains of steps, images with and without a name, cache mounts.
func imagined(random *rand.Rand) *inventory {
	inv := &inventory{}
	add := func(u *unit) *unit {
		inv.units = append(inv.units, u)
		inv.total += u.bytes
		return u
	}
	at := func() time.Time { return time.Unix(random.Int64N(20), 0) }
	add(&unit{kind: Fixed, bytes: 4096, fixed: true, pinned: true})
	for i := range random.IntN(4) {
		add(&unit{kind: Layer, name: fmt.Sprint("lost", i), bytes: 1 << random.IntN(24), lost: true})
	}
	for i := range random.IntN(4) {
		inv.hold(&holder{kind: Mount, id: fmt.Sprint(i), used: at()}).needs(add(&unit{kind: Mount, bytes: 1 << random.IntN(24)}))
	}
	var steps []*holder
	for i := range random.IntN(30) {
		h := inv.hold(&holder{kind: Step, id: fmt.Sprint("step", i), used: at(), result: digest.FromString(fmt.Sprint(i))})
		for range random.IntN(3) {
			if len(steps) == 0 {
				break
			}
			below := steps[random.IntN(len(steps))]
			h.inputs = append(h.inputs, below.result)
			if len(h.inputs) == 1 { // stands on it, and does not only read it
				for _, u := range below.units {
					if u.kind == Layer {
						h.needs(u)
					}
				}
			}
		}
		h.needs(add(&unit{kind: Record, bytes: 4096}))
		if random.IntN(4) > 0 {
			h.needs(add(&unit{kind: Layer, name: h.id, bytes: 1 << random.IntN(24)}))
		}
		steps = append(steps, h)
	}
	for i := range random.IntN(5) {
		h := inv.hold(&holder{kind: Image, id: fmt.Sprint("image", i), used: at(), pinned: random.IntN(2) == 0})
		h.needs(add(&unit{kind: Blob, bytes: 1 << random.IntN(24)}))
		if len(steps) > 0 {
			for _, u := range steps[random.IntN(len(steps))].units {
				if u.kind == Layer {
					h.needs(u)
				}
			}
		}
	}
	inv.rank()
	return inv
}

// Whatever is in a store: what is kept is whole, the store is as small as it is to be if that
// can be done, and nothing goes before something less useful.
func TestPlan(t *testing.T) {
	random := rng(t)
	for range 5000 {
		inv := imagined(random)
		target := random.Int64N(inv.total + 1)
		p := inv.plan([]Reason{BySize}, policy{garbage: true, target: target})
		if problem := judge(inv, p, target); problem != "" {
			t.Fatal(problem)
		}
	}
}

func judge(inv *inventory, p plan, target int64) string {
	out := map[*unit]bool{}
	var bytes int64
	for _, u := range p.units {
		if out[u] {
			return "goes twice: " + u.name
		}
		out[u] = true
		bytes += u.bytes
	}
	if bytes != p.bytes {
		return fmt.Sprintf("the plan says %d bytes, but its units have %d", p.bytes, bytes)
	}
	var kept, gone []*holder
	for _, h := range inv.holders {
		if slices.ContainsFunc(p.holders, func(e evicted) bool { return e.holder == h }) {
			gone = append(gone, h)
		} else {
			kept = append(kept, h)
		}
	}
	made := map[digest.Digest]bool{}
	for _, h := range kept {
		made[h.result] = true
		for _, u := range h.units {
			if out[u] {
				return fmt.Sprintf("%s %s is kept, but not the %s %s that it needs", h.kind, h.id, u.kind, u.name)
			}
		}
	}
	for _, h := range kept {
		for _, in := range h.inputs {
			if !made[in] {
				return fmt.Sprintf("%s is kept, but not what it was made of", h.id)
			}
		}
		for _, g := range gone {
			if !h.pinned && h.used.Before(g.used) && h.gain >= crumb {
				return fmt.Sprintf("%s was used before %s, and is kept", h.id, g.id)
			}
		}
	}
	for _, h := range gone {
		if h.pinned {
			return "gone is " + h.id
		}
	}
	small := inv.total-p.bytes <= target
	if !small && slices.ContainsFunc(kept, func(h *holder) bool { return !h.pinned }) {
		return fmt.Sprintf("%d bytes are left, more than %d, and so are things that could go", inv.total-p.bytes, target)
	}
	if len(gone) > 0 && small {
		last := p.holders[len(p.holders)-1].holder
		var freed int64
		for _, u := range last.units {
			if out[u] && !slices.ContainsFunc(u.by, func(h *holder) bool { return slices.Contains(kept, h) }) {
				freed += u.bytes
			}
		}
		if inv.total-p.bytes+freed <= target {
			return fmt.Sprintf("%s went although the store was small enough", last.id)
		}
	}
	for _, u := range inv.units {
		if u.lost && len(u.by) == 0 && !out[u] {
			return "garbage is left"
		}
	}
	return ""
}
