package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"lamina/snapshot"
)

// lives are about how transactions begin and end.
var lives = []test{
	{"CloseLeavesNothing", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		tx, err := h.driver.Begin(h.Context(), s, []snapshot.Target{dirTarget("/cache")})
		h.must(err)
		h.must(h.inside(tx.Mounts(), do(write("d/g=y"), mkdir("e"), chmod("e", 0))))
		h.must(tx.Close())
		h.must(tx.Close())
		h.leftovers()
		h.published(s...)
		h.shows(s, "d", "d/f")
	}},
	{"CommitLeavesNothing", func(h *harness) {
		s := h.base(nil, files("d/"))
		s = h.run(s, write("d/f=x"))
		h.leftovers()
		h.published(s...)
	}},
	{"CommitToAnExistingID", func(h *harness) {
		s := h.base(nil, files("f=first"))
		tx, err := h.driver.Begin(h.Context(), nil, nil)
		h.must(err)
		h.must(h.inside(tx.Mounts(), write("f=second")))
		h.must(tx.Commit(h.Context(), s[0]))
		h.must(tx.Close())
		h.contains(s, "f", "first")
		h.leftovers()
	}},
	{"CommitWithACancelledContext", func(h *harness) {
		tx, err := h.driver.Begin(h.Context(), nil, nil)
		h.must(err)
		ctx, cancel := context.WithCancel(h.Context())
		cancel()
		if err := tx.Commit(ctx, "cancelled"); !errors.Is(err, context.Canceled) {
			h.Errorf("Commit: %v, want %v", err, context.Canceled)
		}
		h.must(tx.Close())
		h.published()
		h.leftovers()
	}},
	{"CommitToAnInvalidID", func(h *harness) {
		tx, err := h.driver.Begin(h.Context(), nil, nil)
		h.must(err)
		if err := tx.Commit(h.Context(), "../escaped"); err == nil {
			h.Error("Commit takes an id that is a path")
		}
		h.must(tx.Close())
		h.published()
		h.leftovers()
	}},
	{"TransactionsAreApart", func(h *harness) {
		s := h.base(nil, files("f=x"))
		one, err := h.driver.Begin(h.Context(), s, nil)
		h.must(err)
		defer one.Close()
		two, err := h.driver.Begin(h.Context(), s, nil)
		h.must(err)
		defer two.Close()
		h.must(h.inside(one.Mounts(), write("f=one")))
		h.must(h.inside(two.Mounts(), write("g=two")))
		h.must(two.Commit(h.Context(), "two"))
		h.must(one.Commit(h.Context(), "one"))
		h.contains(append(slices.Clone(s), "one"), "f", "one")
		h.holds(stack{"one"}, "- f")
		h.holds(stack{"two"}, "- g")
	}},
	{"MountedTwice", func(h *harness) {
		s := h.base(nil, files("f=x"))
		tx, err := h.driver.Begin(h.Context(), s, nil)
		h.must(err)
		v, err := h.driver.View(h.Context(), s)
		h.must(err)
		for range 2 {
			h.must(h.inside(v.Mounts(), do()))
		}
		h.must(errors.Join(v.Close(), tx.Close()))
		h.leftovers()
	}},
	{"Concurrent", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		const workers, rounds = 8, 4
		group, ctx := errgroup.WithContext(h.Context())
		for w := range workers {
			group.Go(func() error {
				for r := range rounds {
					// Every second id is one that all others commit to as well.
					id := snapshot.ID(fmt.Sprintf("common-%d", r))
					if w%2 == 0 {
						id = snapshot.ID(fmt.Sprintf("own-%d-%d", w, r))
					}
					if err := h.once(ctx, s, id); err != nil {
						return err
					}
				}
				return nil
			})
		}
		h.must(group.Wait())
		ids, err := h.pool.List()
		h.must(err)
		equal(h, "the number of layers", len(ids), 1+workers/2*rounds+rounds)
		for _, id := range ids[:len(ids)-1] {
			h.check(append(slices.Clone(s), id))
		}
		h.leftovers()
	}},
}

// once makes a layer id with a file of that name.
func (h *harness) once(ctx context.Context, s stack, id snapshot.ID) error {
	tx, err := h.driver.Begin(ctx, s, []snapshot.Target{fileTarget("/d/target")})
	if err != nil {
		return err
	}
	err = h.inside(tx.Mounts(), do(write("d/"+string(id)+"=x"), remove("d/f")))
	if err == nil {
		err = tx.Commit(ctx, id)
	}
	return errors.Join(err, tx.Close())
}

// published fails the test if the pool's layers are not ids.
func (h *harness) published(ids ...snapshot.ID) {
	h.Helper()
	got, err := h.pool.List()
	h.must(err)
	if !slices.Equal(got, ids) {
		h.Errorf("the pool holds %v, want %v", got, ids)
	}
}

// Benchmark measures the driver that open makes.
func Benchmark(b *testing.B, open Open) {
	b.Run("BeginCommitEmpty", func(b *testing.B) {
		h := newHarness(b, open)
		s := h.base(nil, files("d/", "d/f=x"))
		for b.Loop() {
			h.transact(s, do())
		}
	})
	b.Run("Commit10000Files", func(b *testing.B) {
		h := newHarness(b, open)
		for b.Loop() {
			h.transact(nil, func(root string) error {
				b.StopTimer()
				defer b.StartTimer()
				return tenThousand(root)
			})
		}
	})
}

// transact begins, changes and commits, without any check.
func (h *harness) transact(s stack, change func(root string) error) {
	h.Helper()
	tx, err := h.driver.Begin(h.Context(), s, nil)
	h.must(err)
	h.must(h.inside(tx.Mounts(), change))
	h.must(tx.Commit(h.Context(), h.id()))
	h.must(tx.Close())
}

// tenThousand writes files of 1 KiB into a hundred directories.
func tenThousand(root string) error {
	data := string(make([]byte, 1<<10))
	for d := range 100 {
		dir := fmt.Sprintf("d%d", d)
		if err := mkdir(dir)(root); err != nil {
			return err
		}
		for f := range 100 {
			if err := write(filepath.Join(dir, fmt.Sprintf("f%d=%s", f, data)))(root); err != nil {
				return err
			}
		}
	}
	return nil
}
