package travel

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/solver"
)

// Index is a cache that steps can be looked up in; see [solver.Options.Imports].
// Nothing is fetched by a lookup.
type Index struct {
	cache *Cache
	learn Learn

	mu      sync.Mutex
	learned map[digest.Digest]bool
}

// Learn is told that a blob lies where a cache does: as one of its own or, if a
// bundle is named, in that.
type Learn func(d digest.Digest, in *Slot) error

var _ solver.Records = (*Index)(nil)

// NewIndex returns the index of c. learn is told, once for each, which blobs lie
// where the cache does, before a record that refers to them is returned.
func NewIndex(c *Cache, learn Learn) *Index {
	return &Index{cache: c, learn: learn, learned: map[digest.Digest]bool{}}
}

// Get returns the record of k; a miss is fs.ErrNotExist.
func (x *Index) Get(_ context.Context, k cache.Key) ([]byte, error) {
	s := x.cache.byKey[k]
	if s == nil {
		return nil, fmt.Errorf("record %s: %w", k, fs.ErrNotExist)
	}
	if err := x.Learn(s.record); err != nil {
		return nil, fmt.Errorf("record %s: %w", k, err)
	}
	return json.Marshal(x.cache.listed(s.record))
}

// listed is r with the lists of its layers.
func (c *Cache) listed(r *solver.Record) *solver.Record {
	own := *r
	own.Result.Layers = slices.Clone(r.Result.Layers)
	for i := range own.Result.Layers {
		if d, ok := c.lists[own.Result.Layers[i].DiffID]; ok {
			own.Result.Layers[i].List = &d
		}
	}
	return &own
}

// Cache returns what is looked up in.
func (x *Index) Cache() *Cache { return x.cache }

// Learn has it learnt where the blobs lie that r refers to, so that they can be
// fetched: the layers, and the tables of what the step read. r is of this cache.
func (x *Index) Learn(r *solver.Record) error {
	for _, l := range r.Result.Layers {
		if _, here := x.cache.held[l.Blob.Digest]; here {
			if err := x.tell(l.Blob.Digest, nil); err != nil {
				return err
			}
		}
	}
	for _, d := range x.cache.smalls(&step{record: r}) {
		if slot, lies := x.cache.slots[d.Digest]; lies {
			if err := x.tell(d.Digest, &slot); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *Index) tell(d digest.Digest, in *Slot) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.learned[d] {
		return nil
	}
	x.learned[d] = true
	return x.learn(d, in)
}
