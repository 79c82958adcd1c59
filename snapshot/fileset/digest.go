package fileset

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lamina/snapshot"
)

// hashWorkers is how many files are hashed at once. More were measured to be
// slower on two cores, and the disk is soon the limit elsewhere.
const hashWorkers = 2

// Sums identifies regular files.
type Sums interface {
	// Sum returns the identity of the regular file name of t, which e describes:
	// the digest of its content if it has no extended attributes, and one over
	// both otherwise.
	Sum(ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, error)
}

// Hash is [Sums] without a memory: it reads every file.
type Hash struct{}

// Sum implements [Sums].
func (Hash) Sum(ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, error) {
	f, xattrs, err := openWithXattrs(t, name)
	if err != nil {
		return "", readError(name, err)
	}
	defer f.Close()
	h := newHashReader(ctx, f)
	buf := make([]byte, min(max(e.Size, 0)+512, 64<<10)) // most files are small
	for err == nil {
		_, err = h.Read(buf)
	}
	if err != io.EOF {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return withXattrs(h.Digest(), xattrs), nil
}

// SumOf is the sum of a regular file whose content has this digest; see [Sums].
func SumOf(content digest.Digest, xattrs map[string]string) digest.Digest {
	return withXattrs(content, xattrs)
}

// DigestOptions say what of a selection counts, and who is told about it.
type DigestOptions struct {
	// ResetOwner leaves owners out: what is copied belongs to somebody else.
	ResetOwner bool
	// Unpack counts only the content of tar archives, not their name, owner or
	// mode: it will be unpacked.
	Unpack bool
	// Table, if set, is called for each file that is selected, in order.
	Table func(Sum) error
}

// Digest identifies what is selected: equal digests mean that copying has equal
// results. Paths below a selected directory count, but neither the path to it nor
// its own attributes, since its contents are what is copied. A file's own name
// counts, and times never do. It takes the same memory for any number of files.
func (s *Selection) Digest(ctx context.Context, sums Sums, opt DigestOptions) (Identity, error) {
	l := listing{sel: s, sums: sums, opt: opt, id: newIdentifier(opt.Table, nil)}
	for i := range s.matches {
		if err := l.add(ctx, &s.matches[i]); err != nil {
			return Identity{}, err
		}
	}
	if err := l.flush(ctx); err != nil {
		return Identity{}, err
	}
	return l.id.identity(s.query.Paths)
}

// listing passes on to an identifier what a selection has. It collects some files
// first, so that they can be hashed at the same time.
type listing struct {
	sel     *Selection
	sums    Sums
	opt     DigestOptions
	id      *identifier
	batch   []listed
	pending []int // the places in batch that wait for their digest
}

// listed is one file of a listing, or the beginning of a match.
type listed struct {
	match   *match
	archive bool
	begins  bool
	item    item
	sum     Sum
}

// maxBatch bounds what a listing collects.
const maxBatch = 1024

// add lists what m selects.
func (l *listing) add(ctx context.Context, m *match) error {
	archive := false
	if l.opt.Unpack && m.entry.Kind == snapshot.File {
		var err error
		if archive, err = isArchive(l.sel.tree, m.name); err != nil {
			return readError(m.name, err)
		}
	}
	memory, _ := l.sums.(interface {
		recall(snapshot.Tree, string, snapshot.Entry) (digest.Digest, bool)
	})
	l.batch = append(l.batch, listed{match: m, archive: archive, begins: true})
	return walk(ctx, l.sel.tree, *m, func(it item) error {
		if it.isTop() {
			return nil
		}
		sum, err := describe(l.sel.tree, it, l.opt.ResetOwner, func(it item) (digest.Digest, error) {
			if memory != nil {
				if d, ok := memory.recall(l.sel.tree, it.name, it.entry); ok {
					return d, nil
				}
			}
			l.pending = append(l.pending, len(l.batch))
			return "", nil
		})
		if err != nil {
			return err
		}
		l.batch = append(l.batch, listed{match: m, archive: archive, item: it, sum: sum})
		if len(l.batch) < maxBatch {
			return nil
		}
		return l.flush(ctx)
	})
}

// flush fills in the digests that are missing and passes on the batch.
func (l *listing) flush(ctx context.Context) error {
	err := inParallel(ctx, len(l.pending), func(ctx context.Context, i int) (err error) {
		f := &l.batch[l.pending[i]]
		f.sum.Digest, err = l.sums.Sum(ctx, l.sel.tree, f.item.name, f.item.entry)
		return err
	})
	if err != nil {
		return err
	}
	for i := range l.batch {
		f := &l.batch[i]
		if f.begins {
			l.id.match(f.match, f.archive)
		} else if err := l.id.file(f.item.below(), f.archive, f.sum); err != nil {
			return err
		}
	}
	l.batch, l.pending = l.batch[:0], l.pending[:0]
	return nil
}

// inParallel calls fn for 0 to n-1, some at a time.
func inParallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	if n == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(hashWorkers, n) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := fn(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// hashReader hashes what is read through it, and ends when ctx does.
type hashReader struct {
	ctx context.Context //nolint:containedctx // the life of one read
	r   io.Reader
	h   hash.Hash
}

func newHashReader(ctx context.Context, r io.Reader) *hashReader {
	return &hashReader{ctx: ctx, r: r, h: sha256.New()}
}

func (r *hashReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.h.Write(p[:n])
	return n, err
}

// Digest implements [layer.Digester].
func (r *hashReader) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, r.h) }
