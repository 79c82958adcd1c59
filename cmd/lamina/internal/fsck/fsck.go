// Package fsck checks a store: that what is in it is what it was when it was put
// there. Blobs are named by their digests, records and indexes carry checksums, and
// layers have lists of their files (see layer.Listed); all of it is read.
//
// What is damaged is repaired by forgetting it, so that the next build makes it again
// or fetches it. Nothing that is good is forgotten: not a tag because a blob of its
// image is damaged, nor a record because of a layer that can be had again.
package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/cmd/lamina/internal/collect"
	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// Options are what [Check] is to do.
type Options struct {
	// Repair forgets what is damaged. Nobody else may use the store meanwhile.
	Repair bool
	// Progress, if set, is told how much of a part has been read, in bytes. It may be
	// called from several goroutines at once.
	Progress func(part Part, done, total int64)
}

// Part is a part of a store.
type Part string

// The parts, in the order in which they are checked and repaired.
const (
	Layout  Part = "layout"
	Blobs   Part = "blobs"
	Layers  Part = "layers"
	Records Part = "records"
	Images  Part = "images"
	Origins Part = "origins"
	Sums    Part = "sums"
	Builds  Part = "builds"
	Mounts  Part = "mounts"
	Git     Part = "git"
)

// Finding is something that is not as it should be.
type Finding struct {
	Part Part `json:"part"`
	// Path is a file or directory, relative to the store's.
	Path string `json:"path"`
	// Problem is what is wrong with it, Effects what that means to who uses the store.
	Problem string   `json:"problem"`
	Effects []string `json:"effects,omitempty"`
	// Remedy is what is or was done about it with Repair, or what the user can do if
	// nothing is.
	Remedy string `json:"remedy,omitempty"`
	// Damage tells damage from what is only worth a word.
	Damage bool  `json:"damage"`
	State  State `json:"state"`

	fix  func(context.Context) error
	keys []cache.Key // of a record that the fix removes
}

// State is what became of a finding.
type State string

// The states.
const (
	Found    State = "found"    // it could be repaired
	Repaired State = "repaired" // it was
	Left     State = "left"     // it cannot be
)

// Report is what a check found.
type Report struct {
	Findings []Finding `json:"findings"`
	// How much was checked.
	Blobs   int   `json:"blobs"`
	Layers  int   `json:"layers"`
	Records int   `json:"records"`
	Images  int   `json:"images"`
	Builds  int   `json:"builds"`
	Bytes   int64 `json:"bytes"`
	// Unlisted are the layers that had no list, and so could not be checked. A repair
	// lists them, so that the next check can tell whether they have changed since.
	Unlisted int `json:"unlisted"`
	// Mounts are the cache mounts, whose content nobody knows.
	Mounts int `json:"mounts"`
}

// Damaged counts the findings that are damage and were not repaired.
func (r *Report) Damaged() int {
	n := 0
	for _, f := range r.Findings {
		if f.Damage && f.State != Repaired {
			n++
		}
	}
	return n
}

// Check checks the store. While others use it, it says nothing of what they are
// just changing; to repair then is cache.ErrInUse.
func Check(ctx context.Context, store *cache.Store, pool *layer.Pool, opt Options) (*Report, error) {
	if !opt.Repair {
		if err := store.Use(ctx); err != nil {
			return nil, err
		}
		return checkTwice(ctx, store, pool, opt)
	}
	unlock, err := store.Exclusive()
	if err != nil {
		return nil, err
	}
	defer unlock()
	c := newChecker(store, pool, opt, nil)
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	return c.report, c.repair(ctx)
}

// checkTwice checks, and then looks once more at what seemed to be damaged: a build
// may have been replacing it.
func checkTwice(ctx context.Context, store *cache.Store, pool *layer.Pool, opt Options) (*Report, error) {
	first := newChecker(store, pool, opt, nil)
	if err := first.check(ctx); err != nil || first.report.Damaged() == 0 {
		return first.report, err
	}
	suspects := map[string]bool{}
	for _, f := range first.report.Findings {
		suspects[f.Path] = true
		if f.Part == Layers { // or what is beside its files
			suspects[layerPath(snapshot.ID(strings.Split(f.Path, "/")[1]))] = true
		}
	}
	again := newChecker(store, pool, Options{}, suspects)
	if err := again.check(ctx); err != nil {
		return nil, err
	}
	type what struct{ path, problem string }
	still := map[what]bool{}
	for _, f := range again.report.Findings {
		still[what{f.Path, f.Problem}] = true
	}
	first.report.Findings = slices.DeleteFunc(first.report.Findings, func(f Finding) bool {
		return f.Damage && !still[what{f.Path, f.Problem}]
	})
	return first.report, nil
}

// checker is one check.
type checker struct {
	store  *cache.Store
	pool   *layer.Pool
	opt    Options
	report *Report
	// only, if not nil, are the paths that content is to be read of.
	only map[string]bool

	badBlobs  map[digest.Digest]bool
	badLayers map[snapshot.ID]bool
	// packed are the layers of which a blob was packed.
	packed map[digest.Digest]packing
	// unlisted are the good layers that have no list, as far as that is known.
	unlisted []snapshot.ID
}

func newChecker(store *cache.Store, pool *layer.Pool, opt Options, only map[string]bool) *checker {
	return &checker{
		store: store, pool: pool, opt: opt, report: &Report{Findings: []Finding{}}, only: only,
		badBlobs: map[digest.Digest]bool{}, badLayers: map[snapshot.ID]bool{},
		packed: map[digest.Digest]packing{},
	}
}

func (c *checker) check(ctx context.Context) error {
	for _, part := range []struct {
		part  Part
		check func(context.Context) error
	}{
		{Layout, c.layout}, {Blobs, c.blobs}, {Layers, c.layers}, {Records, c.records}, {Images, c.images},
		{Origins, c.origins}, {Sums, c.sums}, {Builds, c.builds}, {Mounts, c.mounts}, {Git, c.git},
	} {
		if err := part.check(ctx); err != nil {
			return fmt.Errorf("check %s: %w", part.part, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// damage reports damage that fix repairs. Without one it is left.
func (c *checker) damage(f Finding, fix func(context.Context) error) {
	f.Damage, f.State, f.fix = true, Found, fix
	if fix == nil {
		f.State = Left
	}
	c.report.Findings = append(c.report.Findings, f)
}

// note reports what is no damage.
func (c *checker) note(f Finding, fix func(context.Context) error) {
	f.State, f.fix = Found, fix
	if fix == nil {
		f.State = Left
	}
	c.report.Findings = append(c.report.Findings, f)
}

func (c *checker) progress(part Part, done, total int64) {
	if c.opt.Progress != nil {
		c.opt.Progress(part, done, total)
	}
}

// repair does what the findings say. Why records go is noted before they do.
func (c *checker) repair(ctx context.Context) error {
	if err := c.spare(); err != nil {
		return err
	}
	var evictions []collect.Eviction
	now := time.Now()
	for _, f := range c.report.Findings {
		if len(f.keys) > 0 && f.State != Left {
			evictions = append(evictions, collect.Eviction{Time: now, Reason: collect.ByFsck, Keys: f.keys})
		}
	}
	if err := collect.NoteEvictions(c.store, evictions); err != nil {
		return err
	}
	for i := range c.report.Findings {
		f := &c.report.Findings[i]
		if f.fix == nil || f.State == Left {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := f.fix(ctx)
		var left *leftError
		switch {
		case errors.As(err, &left):
			f.State, f.Remedy = Left, left.remedy
		case err != nil:
			return fmt.Errorf("repair %s: %w", f.Path, err)
		default:
			f.State = Repaired
		}
	}
	if err := c.dropAliases(); err != nil {
		return err
	}
	for _, id := range c.unlisted {
		if err := c.pool.MakeList(ctx, id); err != nil && !errors.Is(err, layer.ErrUnlistable) {
			return fmt.Errorf("list layer %s: %w", id, err)
		}
	}
	return nil
}

// spare leaves what somebody uses who has not got all of the store, as a running container
// does: it would lose its files.
func (c *checker) spare() error {
	claims, err := c.store.Claims()
	if err != nil {
		return err
	}
	for _, claim := range claims {
		for i := range c.report.Findings {
			f := &c.report.Findings[i]
			if slices.ContainsFunc(claim.Paths, func(p string) bool { return within(f.Path, p) || within(p, f.Path) }) {
				f.State, f.Remedy = Left, fmt.Sprintf("%s uses it: repair again when it has ended", claim.By)
			}
		}
	}
	return nil
}

// within tells whether path is dir or something in it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// leftError is of a fix that turned out to be impossible; it says what the user can do.
type leftError struct{ remedy string }

func (e *leftError) Error() string { return e.remedy }

// sortFindings puts those of one part in the order of their paths.
func sortFindings(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(a.Path, b.Path) })
}
