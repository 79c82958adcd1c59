package collect

import "time"

// policy says what goes.
type policy struct {
	// garbage lets go what nobody can find again, and what can never be a hit again.
	garbage bool
	// target is how many bytes the store may keep; 0 keeps as little as possible,
	// and unbounded all there is.
	target int64
	// before lets go whatever was last used before, unless it is zero.
	before time.Time
	// match limits what goes to the holders that it is true of; nil is all.
	match func(*holder) bool
	// useless are holders that go whatever their age: nil is none.
	useless func(*holder) bool
}

// unbounded is the target of who does not mind the size.
const unbounded = int64(-1)

// plan is what goes, in order, and why.
type plan struct {
	holders []evicted
	units   []*unit // of which nobody is left, and garbage
	bytes   int64   // that they take
}

type evicted struct {
	*holder
	why Reason
}

// crumb is what is not worth to be forgotten for as long as there is more to gain:
// the record of a result whose layers stay anyway.
const crumb = 64 << 10

// planner works out a plan. It touches nothing.
type planner struct {
	inv  *inventory
	pol  policy
	plan plan
	left map[*unit]int // who still needs a unit
	out  map[*holder]bool
}

// plan says what goes by these policies, one after the other. Each goes on from
// what the ones before it leave.
func (inv *inventory) plan(why []Reason, policies ...policy) plan {
	p := planner{inv: inv, left: map[*unit]int{}, out: map[*holder]bool{}}
	for _, u := range inv.units {
		p.left[u] = len(u.by)
	}
	for i, pol := range policies {
		p.pol = pol
		p.run(why[i])
	}
	return p.plan
}

func (p *planner) run(why Reason) {
	if p.pol.garbage {
		for _, u := range p.inv.units {
			if u.lost && p.left[u] == 0 {
				p.drop(u)
			}
		}
	}
	for _, h := range p.inv.holders {
		old := !p.pol.before.IsZero() && h.used.Before(p.pol.before)
		useless := p.pol.useless != nil && p.pol.useless(h)
		if (old || useless) && p.mayGo(h) {
			p.evict(h, why)
		}
	}
	if p.pol.target == unbounded {
		return
	}
	for _, least := range []int64{crumb, 0} {
		for _, h := range p.inv.holders {
			if p.inv.total-p.plan.bytes <= p.pol.target {
				return
			}
			if p.mayGo(h) && h.gain >= least {
				p.evict(h, why)
			}
		}
	}
}

func (p *planner) mayGo(h *holder) bool {
	return !h.pinned && !p.out[h] && (p.pol.match == nil || p.pol.match(h))
}

// evict lets h go, and what only h was left to need.
func (p *planner) evict(h *holder, why Reason) {
	p.out[h] = true
	p.plan.holders = append(p.plan.holders, evicted{h, why})
	for _, u := range h.units {
		if p.left[u]--; p.left[u] == 0 {
			p.drop(u)
		}
	}
}

func (p *planner) drop(u *unit) {
	if u.fixed || u.pinned || p.left[u] < 0 {
		return
	}
	p.left[u] = -1
	p.plan.units = append(p.plan.units, u)
	p.plan.bytes += u.bytes
}
