package collect

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"lamina/cache"
	"lamina/solver"
)

// sweep carries out a plan: what is found first goes first, so that whoever is
// killed in between leaves things that nobody finds, and not things that are
// missing something. It only renames and unlinks; what takes time to be removed
// is in a directory of this process afterwards, which is returned.
func (inv *inventory) sweep(ctx context.Context, p plan) (trash string, err error) {
	tmp, err := inv.store.Temp()
	if err != nil {
		return "", err
	}
	if trash, err = os.MkdirTemp(tmp, "trash-"); err != nil {
		return "", err
	}
	if err := NoteEvictions(inv.store, inv.evictions(p)); err != nil {
		return trash, err
	}
	for _, h := range p.holders {
		if h.root != "" {
			if err := inv.store.Forget(ctx, h.root); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return trash, err
			}
		}
	}
	gone := map[string]bool{}
	for i, u := range inOrder(p.units) {
		if err := ctx.Err(); err != nil {
			return trash, err
		}
		err := os.Rename(inv.store.Path(u.path), filepath.Join(trash, strconv.Itoa(i)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return trash, err
		}
		gone[u.path] = true
	}
	for _, alias := range inv.aliases {
		if target, err := os.Readlink(inv.store.Path("layers", alias)); err == nil && (gone["layers/"+target] || inv.layers[target] == nil) {
			os.Remove(inv.store.Path("layers", alias)) // leads nowhere; who wants it makes it anew
		}
	}
	return trash, nil
}

// inOrder sorts units such that those that lead to others come first.
func inOrder(units []*unit) []*unit {
	leads := func(u *unit) int {
		if u.kind == Record || u.kind == Build {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(units), func(a, b *unit) int { return cmp.Compare(leads(a), leads(b)) })
}

// evictions are those of the records that go, under all keys that lead to them.
func (inv *inventory) evictions(p plan) (all []Eviction) {
	now := time.Now()
	for _, h := range p.holders {
		if len(h.keys) == 0 {
			continue
		}
		e := Eviction{Time: now, Reason: h.why, Keys: h.keys}
		if h.kind == Step {
			e.Keys = inv.allKeys(h.keys)
		}
		all = append(all, e)
	}
	return all
}

// allKeys adds to the keys of records the others that these could be found by.
func (inv *inventory) allKeys(keys []cache.Key) []cache.Key {
	seen := map[cache.Key]bool{}
	var all []cache.Key
	add := func(k cache.Key) {
		if k != "" && !seen[k] {
			seen[k] = true
			all = append(all, k)
		}
	}
	for _, k := range keys {
		add(k)
		data, err := inv.store.Peek(k)
		if err != nil {
			continue
		}
		if r, err := solver.DecodeRecord(data); err == nil && r.Exact() {
			narrow, whole := r.Keys()
			add(narrow)
			add(whole)
		}
	}
	return all
}
