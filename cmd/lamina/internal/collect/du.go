package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lamina/cache"
)

// Row is what one thing in the store, or many of one kind, takes on the disk. The rows of
// a store add up to all that it takes.
type Row struct {
	Kind  Kind
	ID    string // empty for many
	Title string // what it is, for people
	Bytes int64
	// Shared tells whether more than one thing needs it.
	Shared bool
	// Reclaimable tells whether a prune may remove it, InUse whether something is
	// running that needs it.
	Reclaimable, InUse bool
	Why                string // it is kept
	Made, Used         time.Time
}

// Usage lists what the store takes, the largest first. Unless all is set, small things
// of one kind are one row. While others use the store it is what there was at some
// time in between.
func Usage(ctx context.Context, store *cache.Store, filter Filter, all bool) ([]Row, error) {
	inv, err := take(ctx, store, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var rows []Row
	sums := map[string]*Row{}
	counts := map[string]int{}
	for _, u := range inv.units {
		row := inv.row(u)
		if !filter.row(&row, u, now) {
			continue
		}
		key, many := group(u)
		if all || key == "" {
			rows = append(rows, row)
			continue
		}
		counts[key]++
		sum := sums[key]
		if sum == nil {
			sum = &row
			sums[key] = sum
		} else {
			sum.merge(row)
		}
		if many != "" {
			sum.ID, sum.Why, sum.Title = "", fmt.Sprintf(many, counts[key]), ""
		}
	}
	for _, sum := range sums {
		rows = append(rows, *sum)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return rows, nil
}

// group says which units are one row, by equal keys, and what that is, with the
// number of units; an empty key is of a row of its own, and an empty text that of
// what the units belong to.
func group(u *unit) (key, text string) {
	switch u.kind {
	case Record:
		if len(u.by) == 0 {
			return "broken", "%d records that cannot be read"
		}
		return "records", "%d records of the build cache"
	case Origin:
		return "origins", "where %d blobs can be had"
	case Build:
		return "builds", "%d remembered builds and their logs"
	case Fixed:
		return "store", "%d directories and lists of the store itself"
	case Blob:
		h := u.keeper()
		switch {
		case h == nil:
		case h.kind == Image, h.kind == Base:
			return "image " + h.id, ""
		case h.kind == Step, h.kind == Build:
			return "lists", "%d lists of files that steps read"
		}
	}
	return "", ""
}

// merge adds another row of the same group.
func (r *Row) merge(o Row) {
	r.Bytes += o.Bytes
	r.Shared = r.Shared || o.Shared
	r.Reclaimable = r.Reclaimable || o.Reclaimable
	r.InUse = r.InUse || o.InUse
	r.Used = latest(r.Used, o.Used)
	if r.Made.IsZero() || !o.Made.IsZero() && o.Made.Before(r.Made) {
		r.Made = o.Made
	}
}

// row describes a unit by the one of its holders that will keep it longest.
func (inv *inventory) row(u *unit) Row {
	r := Row{
		Kind: u.kind, ID: strings.TrimPrefix(u.name, "sha256:"), Bytes: u.bytes, Made: u.made,
		Shared: len(u.by) > 1, Reclaimable: !u.pinned && !u.fixed, Used: u.made,
	}
	for _, h := range u.by {
		r.Used = latest(r.Used, h.used)
		r.InUse = r.InUse || h.kind == Container
	}
	h := u.keeper()
	switch {
	case u.kind == Temporary:
		r.Why, r.Title = "being made, or left by a killed process", u.path
	case u.fixed:
		r.Why, r.Title = "part of every store", u.path
		if u.kind == Other {
			r.Why = "not lamina's"
		}
		if u.kind == StatIndex {
			r.Why, r.Title = "saves reading the files of contexts again", "digests of files of contexts"
		}
	case h == nil:
		r.Why = "nothing needs it"
	default:
		r.Why = h.reason()
		if maker := u.maker(); maker != nil {
			r.Title = maker.title
			if !maker.made.IsZero() {
				r.Made = maker.made
			}
		}
	}
	if h != nil && (h.kind == Image || h.kind == Base) && u.kind == Blob {
		r.Kind, r.ID = Image, h.id
	}
	return r
}

// maker is the holder that says what a unit is: of a layer the step that made it, which is
// the lowest that has it on top.
func (u *unit) maker() (maker *holder) {
	for _, h := range u.by {
		if u.kind == Layer && (h.kind == Step || h.kind == Download || h.kind == Git) && h.top() != u {
			continue
		}
		if maker == nil || h.kind == Step && (maker.kind != Step || h.depth < maker.depth) {
			maker = h
		}
	}
	return maker
}

// keeper is the holder that will keep a unit longest, nil if there is none.
func (u *unit) keeper() (best *holder) {
	for _, h := range u.by {
		if best == nil || h.outlasts(best) {
			best = h
		}
	}
	return best
}

func (h *holder) outlasts(o *holder) bool {
	switch {
	case (h.kind == Container) != (o.kind == Container):
		return h.kind == Container
	case h.pinned != o.pinned:
		return h.pinned
	}
	return h.used.After(o.used)
}

// reason says what h is, as the reason for which something is kept.
func (h *holder) reason() string {
	switch h.kind {
	case Container:
		return h.title + " is running"
	case Image:
		if h.title == "" {
			return "image without a name"
		}
		return "image " + h.title
	case Step:
		return "step " + h.title
	case Base:
		return "base image of builds"
	case Download:
		return "ADD of a URL"
	case Git:
		return "ADD or context from a Git repository"
	case Mount:
		return "cache mount " + h.title
	case Build:
		return "build " + h.id + " is remembered"
	}
	return "left over; could be found again"
}

// row tells whether a row matches.
func (f Filter) row(r *Row, u *unit, now time.Time) bool {
	for _, c := range f {
		holds := false
		switch c.key {
		case "type":
			holds = string(r.Kind) == c.value || slices.ContainsFunc(u.by, func(h *holder) bool { return string(h.kind) == c.value })
		case "id":
			holds = strings.HasPrefix(r.ID, strings.TrimPrefix(c.value, "sha256:")) || u.kind == Mount && r.Title == c.value
		default:
			holds = now.Sub(r.Used) >= c.unused
		}
		if holds == c.not {
			return false
		}
	}
	return true
}
