package explain

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/collect"
	"lamina/solver/local"
)

// Stored is what a store knows of what was before the build with this ID. Tables are
// read from blobs, those of the store or more. Builds that cannot be read explain
// nothing.
func Stored(ctx context.Context, store *cache.Store, blobs cache.Blobs, id string) (History, error) {
	all := builds.In(store)
	ids, err := all.IDs()
	if err != nil {
		return History{}, err
	}
	return History{
		Earlier: earlierOf(all, ids, id),
		Table: func(d ocispec.Descriptor) (io.ReadCloser, error) {
			return blobs.Open(ctx, d)
		},
		Evicted: func(k cache.Key) (time.Time, string, error) {
			e, err := collect.Evicted(store, k)
			return e.Time, string(e.Reason), err
		},
		Commit: func(id digest.Digest) string { return local.Commit(ctx, store.Index(), id) },
		Now:    time.Now(),
	}, nil
}

// earlierOf are the builds of ids that are before id.
func earlierOf(all *builds.Store, ids []string, id string) iter.Seq[*builds.Build] {
	return func(yield func(*builds.Build) bool) {
		for _, other := range ids {
			if other >= id {
				continue
			}
			if b, err := all.Get(other); err == nil && !yield(b) {
				return
			}
		}
	}
}
