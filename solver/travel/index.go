package travel

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/solver"
)

// Index is a cache that steps can be looked up in; see [solver.Options.Imports].
// Nothing is fetched by a lookup.
type Index struct {
	cache *Cache
	learn func(digest.Digest) error

	mu      sync.Mutex
	learned map[digest.Digest]bool
}

var _ solver.Records = (*Index)(nil)

// NewIndex returns the index of c. learn is told, once for each, which blobs lie
// where the cache does, before a record that refers to them is returned.
func NewIndex(c *Cache, learn func(digest.Digest) error) *Index {
	return &Index{cache: c, learn: learn, learned: map[digest.Digest]bool{}}
}

// Get returns the record of k; a miss is fs.ErrNotExist.
func (x *Index) Get(_ context.Context, k cache.Key) ([]byte, error) {
	s := x.cache.byKey[k]
	if s == nil {
		return nil, fmt.Errorf("record %s: %w", k, fs.ErrNotExist)
	}
	for _, l := range s.record.Result.Layers {
		if err := x.tell(l.Blob.Digest); err != nil {
			return nil, fmt.Errorf("record %s: %w", k, err)
		}
	}
	return json.Marshal(s.record)
}

func (x *Index) tell(d digest.Digest) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, here := x.cache.held[d]; !here || x.learned[d] {
		return nil
	}
	x.learned[d] = true
	return x.learn(d)
}
