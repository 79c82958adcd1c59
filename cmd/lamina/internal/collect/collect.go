// Package collect keeps a store within bounds: it removes what nobody needs, and
// then what is least recently useful, until the store is as small and as young as
// it is to be. It also says what is in a store, why, and what that takes.
//
// Units take room on the disk: layers, blobs, cache mounts, the files of records.
// Holders need units: images, the results of steps, running containers. A unit is
// there as long as any of its holders is, so it is as useful as the latest use of
// any of these. While something is removed nobody else may use the store, since
// nobody refers yet to what is just being made; only what takes long, the deletion
// itself, is done when the store is free again.
package collect

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Limits bound a store.
type Limits struct {
	// Size is how many bytes it may take on the disk; 0 is no bound.
	Size int64
	// Age is how long what is not used is kept; 0 is no bound.
	Age time.Duration
}

// Report says what was removed, or would be.
type Report struct {
	Images  []digest.Digest // that had no name
	Items   []Item          // what goes, and what it takes; the least useful first
	Records int
	Layers  int
	Blobs   int
	Bytes   int64 // that the disk gets back
	// Left is what the store takes then.
	Left int64
	// Stuck is set if the store could not be brought down to what it may take: what
	// is left is in use.
	Stuck bool
}

// low is what a store that grew above its cap is brought down to, so that not every
// build has to collect: a tenth of the room that there is beside what stays whatever
// happens.
func low(size, stays int64) int64 { return size - max(0, size-stays)/10 }

// restful is how often what is too old is looked for: it may be older by this.
func restful(age time.Duration) time.Duration { return min(24*time.Hour, age/8) }

// After brings the store back within its limits after something was added to it. It
// costs next to nothing if it is within them. It is cache.ErrInUse while another
// process uses the store, and then is that one's to do.
func After(ctx context.Context, store *cache.Store, l Limits) (Report, error) {
	if l.Size <= 0 && l.Age <= 0 {
		return Report{}, nil
	}
	unlock, err := store.Exclusive()
	if err != nil {
		return Report{}, err
	}
	var trash string
	defer func() { unlock(); cache.RemoveAll(trash) }()
	a := openAccount(store)
	due := l.Age > 0 && time.Since(a.swept) > restful(l.Age)
	if due {
		a.doubt(time.Now())
	}
	total, err := a.total()
	if err != nil {
		return Report{}, err
	}
	claims, err := store.Claims()
	if err != nil {
		return Report{}, err
	}
	a.touchy(claims)
	report := Report{Left: total}
	if over := l.Size > 0 && total > l.Size; over || due {
		report, trash, err = collectAfter(ctx, store, a, l, over)
	}
	report.Stuck = a.news(l.Size > 0 && report.Left > l.Size, l.Size)
	return report, errors.Join(err, a.save())
}

// news tells whether it has to be said that the store is stuck above this cap: once,
// until it is below it again.
func (a *account) news(stuck bool, size int64) bool {
	if !stuck {
		size = 0
	}
	if a.warned == size {
		return false
	}
	a.warned, a.dirty = size, true
	return stuck
}

func collectAfter(ctx context.Context, store *cache.Store, a *account, l Limits, over bool) (Report, string, error) {
	inv, err := take(ctx, store, a)
	if err != nil {
		return Report{}, "", err
	}
	a.swept, a.dirty = time.Now(), true
	age, size := policy{garbage: true, target: unbounded}, policy{target: unbounded}
	if l.Age > 0 {
		age.before = a.swept.Add(-l.Age)
	}
	if over {
		least := inv.plan([]Reason{ByAge, BySize}, age, policy{target: 0})
		size.target = low(l.Size, inv.total-least.bytes)
	}
	p := inv.plan([]Reason{ByAge, BySize}, age, size)
	trash, err := inv.sweep(ctx, p)
	err = errors.Join(err, store.SweepLocks())
	return inv.report(p), trash, err
}

// PruneOptions say what Prune removes.
type PruneOptions struct {
	// All makes garbage of all that has no name and is not running.
	All bool
	// Keep is how many bytes the store may keep, if Bounded is set.
	Keep    int64
	Bounded bool
	// Filter limits what goes to what matches it; see [ParseFilter].
	Filter Filter
	// Limits are those of the store, which hold after a prune as they do after a build.
	Limits Limits
	// DryRun removes nothing.
	DryRun bool
}

// Prune removes images without a name and what nobody needs, and of what else can
// be made again as much as opt says. It is cache.ErrInUse while another process uses the store.
func Prune(ctx context.Context, store *cache.Store, opt PruneOptions) (Report, error) {
	if opt.DryRun {
		inv, err := take(ctx, store, nil)
		if err != nil {
			return Report{}, err
		}
		return inv.report(opt.plan(inv)), nil
	}
	unlock, err := store.Exclusive()
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	swept, err := sweepTemp(store)
	if err != nil {
		return Report{}, err
	}
	inv, err := take(ctx, store, nil)
	if err != nil {
		return Report{}, err
	}
	p := opt.plan(inv)
	trash, err := inv.sweep(ctx, p)
	err = errors.Join(err, cache.RemoveAll(trash), store.SweepLocks())
	report := inv.report(p)
	report.Bytes += swept
	return report, err
}

// sweepTemp removes what killed processes left, and returns what that took.
func sweepTemp(store *cache.Store) (int64, error) {
	var before, after disk
	was, _, err := before.tree(store.Path("tmp"))
	if err != nil {
		return 0, err
	}
	store.Sweep()
	is, _, err := after.tree(store.Path("tmp"))
	return was - is, err
}

// plan says what goes of inv.
func (o PruneOptions) plan(inv *inventory) plan {
	now := time.Now()
	filter := policy{match: o.Filter.holder(now), target: unbounded}
	why := ByPrune
	if o.All {
		why = ByPruneAll
	}
	switch {
	case o.Bounded:
		filter.target = o.Keep
	case len(o.Filter) > 0:
		filter.useless = func(*holder) bool { return true }
	case o.All: // but for what tells why steps have to be executed again
		filter.useless = func(h *holder) bool { return h.kind != Build }
	}
	if len(o.Filter) > 0 {
		return inv.plan([]Reason{why}, filter)
	}
	unused := policy{garbage: true, target: unbounded, useless: isUnused}
	old, size := policy{target: unbounded}, policy{target: unbounded}
	if o.Limits.Age > 0 {
		old.before = now.Add(-o.Limits.Age)
	}
	if o.Limits.Size > 0 && !o.Bounded {
		size.target = o.Limits.Size
	}
	return inv.plan([]Reason{why, why, ByAge, BySize}, unused, filter, old, size)
}

// isUnused tells whether a prune removes h without being asked for more: images
// without a name, and what belongs to none and to no record.
func isUnused(h *holder) bool { return h.kind == Image || h.kind == Layer || h.kind == Blob }

// Images removes what images that the store no longer has, of these roots,
// referred to and nothing else does. It is cache.ErrInUse while another process
// uses the store.
func Images(ctx context.Context, store *cache.Store, gone []ocispec.Descriptor) (Report, error) {
	unlock, err := store.Exclusive()
	if err != nil {
		return Report{}, err
	}
	var trash string
	defer func() { unlock(); cache.RemoveAll(trash) }()
	inv, err := take(ctx, store, openAccount(store))
	if err != nil {
		return Report{}, err
	}
	had := &holder{}
	for _, root := range gone {
		if err := inv.addImage(ctx, had, root); err != nil {
			return Report{}, err
		}
	}
	theirs := map[*unit]bool{}
	for _, u := range had.units {
		theirs[u] = true
	}
	// What only they referred to is loose by now.
	loose := func(h *holder) bool { return (h.kind == Layer || h.kind == Blob) && theirs[h.units[0]] }
	for _, u := range inv.units {
		u.lost = u.lost && theirs[u]
		u.by = removed(u.by, had)
	}
	p := inv.plan([]Reason{ByPrune}, policy{garbage: true, target: unbounded, useless: loose})
	trash, err = inv.sweep(ctx, p)
	return inv.report(p), err
}

func removed(all []*holder, h *holder) []*holder {
	var left []*holder
	for _, o := range all {
		if o != h {
			left = append(left, o)
		}
	}
	return left
}
