package collect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lamina/cache"
)

func eviction(at int64, why Reason, names ...string) Eviction {
	e := Eviction{Time: time.Unix(at, 0).UTC(), Reason: why}
	for _, n := range names {
		e.Keys = append(e.Keys, digest.FromString(n))
	}
	return e
}

func TestEvictions(t *testing.T) {
	w := newWorld(t)
	first := eviction(100, ByPruneAll, "narrow", "whole")
	other := eviction(101, ByAge, "other")
	again := eviction(200, BySize, "whole")
	w.must(NoteEvictions(w.store, []Eviction{first, other}))
	w.must(NoteEvictions(w.store, nil))
	w.must(NoteEvictions(w.store, []Eviction{again}))
	for name, want := range map[string]Eviction{"narrow": first, "whole": again, "other": other} {
		got, err := Evicted(w.store, digest.FromString(name))
		w.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := Evicted(w.store, digest.FromString("never")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was never evicted: %v", err)
	}
	if _, err := Evicted(w.store, "sha256:../evictions"); err == nil {
		t.Error("a key that is none was looked up")
	}
}

// Whatever bytes are damaged or missing, what else the log says is found.
func TestEvictionsDamaged(t *testing.T) {
	w := newWorld(t)
	before, between := eviction(1, BySize, "before"), eviction(2, BySize, "between")
	w.must(NoteEvictions(w.store, []Eviction{before, between}))
	log := w.store.Path(evictionsFile)
	sound, err := os.ReadFile(log)
	w.must(err)
	begin := len(sound) / 2
	for at := begin; at < len(sound); at++ {
		for _, damaged := range [][]byte{sound[:at], append(append(append([]byte{}, sound[:at]...), sound[at]^1), sound[at+1:]...)} {
			w.must(os.WriteFile(log, damaged, 0o600))
			w.must(NoteEvictions(w.store, []Eviction{eviction(3, ByFsck, "after")}))
			for _, name := range []string{"before", "after"} {
				if _, err := Evicted(w.store, digest.FromString(name)); err != nil {
					t.Fatalf("damaged at %d: %v", at, err)
				}
			}
			got, err := Evicted(w.store, between.Keys[0])
			if err == nil && got.Reason != BySize {
				t.Fatalf("damaged at %d: was evicted by %q", at, got.Reason)
			}
		}
	}
}

// The log does not grow without bound, and what is left is the latest.
func TestEvictionsBounded(t *testing.T) {
	w := newWorld(t)
	const batch = 1000
	for i := range 60 {
		var all []Eviction
		for j := range batch {
			all = append(all, eviction(int64(i), BySize, fmt.Sprint(i*batch+j)))
		}
		w.must(NoteEvictions(w.store, all))
	}
	var size int64
	for _, name := range []string{evictionsFile, evictionsOld} {
		if st, err := os.Stat(w.store.Path(name)); err == nil {
			size += st.Size()
		}
	}
	if limit := int64(2*maxEvictions + 100*batch); size > limit {
		t.Errorf("the log has %d bytes, want at most %d", size, limit)
	}
	key := func(n int) cache.Key { return digest.FromString(fmt.Sprint(n)) }
	if _, err := Evicted(w.store, key(0)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first one: %v", err)
	}
	for _, n := range []int{60*batch - 1, 50 * batch, 45 * batch} {
		if _, err := Evicted(w.store, key(n)); err != nil {
			t.Error(err)
		}
	}
}
