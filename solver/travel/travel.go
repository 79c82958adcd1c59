// Package travel takes the build cache to other machines: it writes records, with
// the layers of their results, into repositories (registries, OCI layouts, images),
// and reads records from there.
//
//	found, err := travel.Read(ctx, repo, "cache")           // a few small requests
//	imported := travel.NewIndex(found, learn)               // goes into solver.Options.Imports
//	…
//	var used travel.Collector                               // goes into solver.Options.Solved
//	steps := used.All()
//	mine, err := travel.Pack(ctx, steps, bases, copied, pool, blobs, pack)
//	report, err := travel.Write(ctx, repo, "cache", blobs, mine, travel.Options{})
//
// A cache is an image manifest. Its config is the records, its layers are those of
// the results, so that a registry keeps them for as long as it keeps the tag:
//
//	manifest   config  application/vnd.lamina.cache.v1+zstd   the records; see document
//	           layers  …image.layer.v1.tar+gzip               each once
//	                   application/vnd.lamina.cache.bundle.v1 lists of files, of what steps read and of layers; see BundleType
//
// Or it is an image: then its configuration has the records of the steps that made
// its own layers, as a member of its own ("inline").
//
// What is read here was written by strangers. Records do not say which keys they
// are for, nor what identity their result has: both are computed from what they say
// went into them, so that a record can only ever be found by a step with that very
// operation on those very inputs. docs/cache.md says what remains to be trusted.
package travel

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/solver"
)

const (
	// ConfigType is the media type of the records, as a manifest's config.
	ConfigType = "application/vnd.lamina.cache.v1+zstd"
	// ArtifactType tells registries what the manifest is.
	ArtifactType = "application/vnd.lamina.cache.v1"
	// ConfigMember is where an image's configuration has its records.
	ConfigMember = "lamina.cache.v1"

	// buildkitConfig is the config of BuildKit's caches.
	buildkitConfig = "application/vnd.buildkit.cacheconfig.v0"
)

// What a cache is allowed to hold. Of what is more, the longest unused goes.
const (
	maxSteps  = 5000
	maxLayers = 2000 // a manifest of so many has half a MiB; registries take 4
	// maxIdle is how long a step is kept that no build used.
	maxIdle = 14 * 24 * time.Hour
	// usedAfter is how old the note may grow that a step is used: every build would
	// write it otherwise.
	usedAfter = 24 * time.Hour
)

// Errors of Read that say what was found instead of a cache.
var (
	// ErrNoCache reports an image that carries no cache.
	ErrNoCache = errors.New("it is an image that carries no cache")
	// ErrForeign reports a cache that another program wrote, or another lamina.
	ErrForeign = errors.New("the cache is another program's")
	// ErrDamaged reports what cannot be read.
	ErrDamaged = errors.New("the cache is damaged")
)

// Cache is records with the layers of their results.
type Cache struct {
	// Root is the manifest that it was read from; zero if it was made here.
	Root ocispec.Descriptor
	// Dropped is how many steps could not be read.
	Dropped int
	// Image says that it was read from an image, which carries it.
	Image bool

	steps map[cache.Key]*step // by step.id
	byKey map[cache.Key]*step // by all keys, the latest of each
	// held are the layers that the manifest refers to, and so are where it is.
	held map[digest.Digest]ocispec.Descriptor
	// tags are what the two tags stood for that it was read from, if there were two.
	tags []*Cache
	// slots are where the small blobs lie that records refer to.
	slots map[digest.Digest]Slot
	// lists are the lists of files of layers, by diff ID, and unlisted make those that
	// do not exist yet.
	lists    map[digest.Digest]ocispec.Descriptor
	unlisted map[digest.Digest]func(context.Context) ([]byte, error)
	// mounts are the cache mounts, by name.
	mounts map[string]mount
}

// step is one record. The layers of its result have DiffID and Blob, but no ID.
type step struct {
	record *solver.Record
	used   time.Time // when a build last found or made it
	id     cache.Key // the key over the whole inputs or, if there is none, the other
	keys   [2]cache.Key
}

func newCache() *Cache {
	return &Cache{
		steps: map[cache.Key]*step{}, byKey: map[cache.Key]*step{},
		held: map[digest.Digest]ocispec.Descriptor{}, slots: map[digest.Digest]Slot{},
		lists: map[digest.Digest]ocispec.Descriptor{}, unlisted: map[digest.Digest]func(context.Context) ([]byte, error){},
		mounts: map[string]mount{},
	}
}

// newStep completes a record by what follows from it.
func newStep(r *solver.Record, used time.Time) *step {
	r.Result.ID = r.Identity()
	narrow, whole := r.Keys()
	s := &step{record: r, used: used, id: narrow, keys: [2]cache.Key{narrow, whole}}
	if whole != "" {
		s.id = whole
	}
	return s
}

// add adds a step. Of two that are the same the later made wins: it is what
// somebody who did not trust the earlier one made anew.
func (c *Cache) add(s *step) {
	if old := c.steps[s.id]; old != nil {
		if old.supersedes(s) {
			s, old = old, s
		}
		record, used := partsFrom(s.record, old.record), s.used
		if old.used.After(used) {
			used = old.used
		}
		s = &step{record, used, s.id, s.keys}
	}
	c.steps[s.id] = s
	for _, k := range s.keys {
		if k == "" {
			continue
		}
		if old := c.byKey[k]; old == nil || old.id == s.id || s.supersedes(old) {
			c.byKey[k] = s
		}
	}
}

// supersedes orders steps of the same key in the same way everywhere. One with a
// result is better than one that only tells its identity.
func (s *step) supersedes(t *step) bool {
	if s.record.Absent != t.record.Absent {
		return t.record.Absent
	}
	if d := s.record.Created.Compare(t.record.Created); d != 0 {
		return d > 0
	}
	return s.top() > t.top()
}

// top is the digest of the uppermost layer.
func (s *step) top() digest.Digest {
	layers := s.record.Result.Layers
	if len(layers) == 0 {
		return ""
	}
	return layers[len(layers)-1].Blob.Digest
}

// All returns the records, and when each was last found or made, in a fixed order.
func (c *Cache) All() iter.Seq2[*solver.Record, time.Time] {
	return func(yield func(*solver.Record, time.Time) bool) {
		for _, s := range c.sorted() {
			if !yield(s.record, s.used) {
				return
			}
		}
	}
}

// Steps is how many steps the cache has.
func (c *Cache) Steps() int { return len(c.steps) }

// Each calls fn for the layers that lie where the cache does, or are to.
func (c *Cache) Each(fn func(ocispec.Descriptor) error) error {
	for _, d := range c.layers() {
		if err := fn(d); err != nil {
			return err
		}
	}
	return nil
}
