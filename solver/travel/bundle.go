package travel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// BundleType is the media type of a bundle: small blobs, one after the other, that a
// cache has so many of that each of its own would cost too many requests. The
// records say where in it which blob lies.
const BundleType = "application/vnd.lamina.cache.bundle.v1"

// bundleMagic begins a bundle, which is therefore never the same as a blob in it.
const bundleMagic = "lamina bundle 1\n"

// What a cache may have of small blobs. What is more, of the longest unused steps,
// stays behind: it only tells people why something was not found.
const (
	maxPart    = 8 << 20 // bytes of one
	maxBundle  = 16 << 20
	maxBundles = 100
	maxBundled = 64 << 20 // bytes of all bundles
)

// Slot is where a small blob lies in a bundle.
type Slot struct {
	Bundle ocispec.Descriptor
	At     int64 // bytes before it
}

// originPrefix begins the origins that are slots.
const originPrefix = "bundle:"

// Origin is what a store remembers as the origin of a blob that lies in this slot
// of a bundle of a repository; see [ParseOrigin].
func (s Slot) Origin(repository string) string {
	return fmt.Sprintf("%s%s:%d:%d@%s", originPrefix, s.Bundle.Digest.Encoded(), s.Bundle.Size, s.At, repository)
}

// ParseOrigin tells slots from other origins, and what [Slot.Origin] was told.
func ParseOrigin(origin string) (s Slot, repository string, ok bool) {
	rest, ok := strings.CutPrefix(origin, originPrefix)
	if !ok {
		return s, "", false
	}
	where, repository, _ := strings.Cut(rest, "@")
	fields := strings.Split(where, ":")
	if len(fields) != 3 {
		return s, "", false
	}
	size, err1 := strconv.ParseInt(fields[1], 10, 64)
	at, err2 := strconv.ParseInt(fields[2], 10, 64)
	s = Slot{ocispec.Descriptor{MediaType: BundleType, Digest: digest.NewDigestFromEncoded(digest.SHA256, fields[0]), Size: size}, at}
	return s, repository, errors.Join(err1, err2, s.Bundle.Digest.Validate()) == nil
}

// In is the blobs of the slot, of which there is one, in a bundle of these blobs.
func (s Slot) In(blobs cache.Blobs) cache.Blobs { return bundled{s, blobs} }

type bundled struct {
	Slot
	blobs cache.Blobs
}

// Has tells whether the bundle is there.
func (b bundled) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if b.check(d) != nil {
		return false, nil
	}
	return b.blobs.Has(ctx, b.Bundle)
}

// Open reads all of the bundle, so that a store that keeps what is read has it for
// the next one.
func (b bundled) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := b.check(d); err != nil {
		return nil, err
	}
	if d.Digest == b.Bundle.Digest { // whoever asks is about to fetch it
		return nil, fmt.Errorf("%s is the bundle itself: %w", d.Digest, fs.ErrNotExist)
	}
	data, err := readBlob(ctx, b.blobs, b.Bundle, maxBundle)
	if err != nil {
		return nil, err
	}
	return cache.Verify(io.NopCloser(bytes.NewReader(data[b.At:b.At+d.Size])), d), nil
}

// Put fails: bundles are made at once.
func (b bundled) Put(_ context.Context, d ocispec.Descriptor, _ io.Reader) error {
	return fmt.Errorf("put %s into a bundle: %w", d.Digest, errors.ErrUnsupported)
}

// check refuses what cannot lie there.
func (s Slot) check(d ocispec.Descriptor) error {
	if d.Digest == s.Bundle.Digest || d.Size <= 0 || d.Size > maxPart || s.At < 0 || s.Bundle.Size > maxBundle || s.At > s.Bundle.Size-d.Size {
		return fmt.Errorf("%w: there are no %d bytes at %d of a bundle of %d", ErrDamaged, d.Size, s.At, s.Bundle.Size)
	}
	return nil
}

// slotOf finds out in which bundle of which repository a small blob lies, if that
// is known.
func slotOf(blobs cache.Blobs, d digest.Digest) (Slot, bool) {
	known, ok := blobs.(interface {
		Origins(d digest.Digest) []string
	})
	if !ok {
		return Slot{}, false
	}
	for _, origin := range known.Origins(d) {
		if s, _, ok := ParseOrigin(origin); ok {
			return s, true
		}
	}
	return Slot{}, false
}

// parts are the small blobs that a record refers to.
func parts(r *solver.Record) (all []ocispec.Descriptor) {
	for _, in := range r.Inputs {
		all = append(all, in.Read.Parts...)
	}
	return all
}

// withParts is r with those small blobs that keep tells; r itself is not changed.
func withParts(r *solver.Record, keep func(ocispec.Descriptor) bool) *solver.Record {
	own := *r
	own.Inputs = nil
	for _, in := range r.Inputs {
		var kept []ocispec.Descriptor
		for _, d := range in.Read.Parts {
			if keep(d) {
				kept = append(kept, d)
			}
		}
		in.Read.Parts = kept
		own.Inputs = append(own.Inputs, in)
	}
	return &own
}

// partsFrom is r with the lists of files that other has of the same files, where r
// has none.
func partsFrom(r, other *solver.Record) *solver.Record {
	own, more := *r, false
	own.Inputs = slices.Clone(r.Inputs)
	for i := range min(len(own.Inputs), len(other.Inputs)) {
		mine, theirs := &own.Inputs[i].Read, other.Inputs[i].Read
		if len(mine.Parts) == 0 && len(theirs.Parts) > 0 && mine.Digest == theirs.Digest {
			mine.Parts, more = theirs.Parts, true
		}
	}
	if !more {
		return r
	}
	return &own
}

// isPart tells whether d may be a small blob of a record.
func isPart(d ocispec.Descriptor) bool {
	return (d.MediaType == fileset.TableType || d.MediaType == layer.InventoryType) && d.Size > 0 && d.Size <= maxPart &&
		d.Digest.Validate() == nil && d.Digest.Algorithm() == digest.SHA256
}

// luggage counts the small blobs that a cache takes along.
type luggage struct {
	bundles map[digest.Digest]bool
	bytes   int64 // of bundles
	loose   map[digest.Digest]bool
	more    int64 // bytes that are in none yet
}

// takes tells whether there is room for d, which lies at s if it lies anywhere yet.
func (l *luggage) takes(d ocispec.Descriptor, s Slot) bool {
	if !isPart(d) {
		return false
	}
	if s.Bundle.Digest == "" {
		if l.loose[d.Digest] {
			return true
		}
		if l.more+d.Size > maxBundle || l.bytes+l.more+d.Size > maxBundled || len(l.bundles) >= maxBundles {
			return false
		}
		l.loose[d.Digest] = true
		l.more += d.Size
		return true
	}
	if l.bundles[s.Bundle.Digest] {
		return true
	}
	if l.bytes+l.more+s.Bundle.Size > maxBundled || len(l.bundles)+1 >= maxBundles {
		return false
	}
	l.bundles[s.Bundle.Digest] = true
	l.bytes += s.Bundle.Size
	return true
}

// smalls are the small blobs that belong to a step.
func (c *Cache) smalls(s *step) []ocispec.Descriptor {
	all := parts(s.record)
	for _, l := range s.record.Result.Layers {
		if d, ok := c.lists[l.DiffID]; ok {
			all = append(all, d)
		}
	}
	return all
}

// bundle puts the small blobs of c that lie nowhere yet into bundles, and returns
// these: tables, which are read to explain something, and lists of layers, which are to build, lie apart.
// What cannot be read stays behind.
func (c *Cache) bundle(ctx context.Context, src cache.Blobs) [][]byte {
	tables, lists := &packing{}, &packing{}
	for _, s := range c.sorted() {
		for _, l := range s.record.Result.Layers {
			if list := c.unlisted[l.DiffID]; list != nil {
				delete(c.unlisted, l.DiffID)
				if data, err := list(ctx); err == nil && lists.add(digest.FromBytes(data), data) {
					c.lists[l.DiffID] = ocispec.Descriptor{MediaType: layer.InventoryType, Digest: digest.FromBytes(data), Size: int64(len(data))}
				}
			}
		}
		for _, d := range c.smalls(s) {
			into := tables
			if d.MediaType == layer.InventoryType {
				into = lists
			}
			if _, lies := c.slots[d.Digest]; lies || into.has(d.Digest) {
				continue
			}
			if data, err := readBlob(ctx, src, d, maxPart); err == nil {
				into.add(d.Digest, data)
			}
		}
	}
	var all [][]byte
	for _, p := range []*packing{tables, lists} {
		whole := ocispec.Descriptor{MediaType: BundleType, Digest: digest.FromBytes(p.data), Size: int64(len(p.data))}
		for d, offset := range p.at {
			c.slots[d] = Slot{whole, offset}
		}
		if len(p.data) > 0 {
			all = append(all, p.data)
		}
	}
	return all
}

// packing is a bundle that is being made.
type packing struct {
	data []byte
	at   map[digest.Digest]int64
}

func (p *packing) has(d digest.Digest) bool { _, ok := p.at[d]; return ok }

// add adds a blob, if there is room.
func (p *packing) add(d digest.Digest, data []byte) bool {
	if len(data) > maxPart || len(bundleMagic)+len(p.data)+len(data) > maxBundle {
		return p.has(d)
	}
	if p.at == nil {
		p.at = map[digest.Digest]int64{}
		p.data = []byte(bundleMagic)
	}
	if !p.has(d) {
		p.at[d] = int64(len(p.data))
		p.data = append(p.data, data...)
	}
	return true
}

// bundles lists the bundles that the steps need, in a fixed order.
func (c *Cache) bundles() (all []ocispec.Descriptor) {
	seen := map[digest.Digest]bool{}
	for _, s := range c.sorted() {
		for _, d := range c.smalls(s) {
			if b := c.slots[d.Digest].Bundle; b.Digest != "" && !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b)
			}
		}
	}
	return all
}
