package fileset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lamina/snapshot"
)

// hashWorkers is how many files are hashed at once. More were measured to be
// slower on two cores, and the disk is soon the limit elsewhere.
const hashWorkers = 2

// identityVersion begins every identity. Whoever changes what is hashed, or how,
// changes it.
const identityVersion = "lamina files 1\n"

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
	return withXattrs(h.digest(), xattrs), nil
}

// DigestOptions say what of a selection counts.
type DigestOptions struct {
	// ResetOwner leaves owners out: what is copied belongs to somebody else.
	ResetOwner bool
	// Unpack counts only the content of tar archives, not their name, owner or
	// mode: it will be unpacked.
	Unpack bool
}

// Digest identifies what is selected: equal digests mean that copying has equal
// results. Paths below a selected directory count, but neither the path to it nor
// its own attributes, since its contents are what is copied. A file's own name
// counts, and times never do. The table names what was hashed, in order.
func (s *Selection) Digest(
	ctx context.Context, sums Sums, opt DigestOptions,
) (digest.Digest, []Sum, error) {
	l := listing{sel: s, sums: sums, opt: opt}
	id := identity{h: sha256.New()}
	id.h.Write([]byte(identityVersion))
	starts := make([]int, 0, len(s.matches)+1)
	for _, m := range s.matches {
		starts = append(starts, len(l.table))
		if err := l.add(ctx, m); err != nil {
			return "", nil, err
		}
	}
	if err := l.hash(ctx); err != nil {
		return "", nil, err
	}
	starts = append(starts, len(l.table))
	for i, m := range s.matches {
		archive := false
		if opt.Unpack && m.entry.Kind == snapshot.File {
			var err error
			if archive, err = isArchive(s.tree, m.name); err != nil {
				return "", nil, err
			}
		}
		id.match(m, archive, l.table[starts[i]:starts[i+1]])
	}
	return digest.NewDigest(digest.SHA256, id.h), l.table, nil
}

// listing makes the table of a selection.
type listing struct {
	sel     *Selection
	sums    Sums
	opt     DigestOptions
	table   []Sum
	pending []pendingSum
}

// pendingSum is a file whose place in the table waits for its digest.
type pendingSum struct {
	item item
	at   int
}

// maxPending bounds what is remembered of files that are still to be hashed.
const maxPending = 4096

// add appends what m selects to the table.
func (l *listing) add(ctx context.Context, m match) error {
	memory, _ := l.sums.(interface {
		recall(snapshot.Tree, string, snapshot.Entry) (digest.Digest, bool)
	})
	return walk(ctx, l.sel.tree, m, func(it item) error {
		if it.isTop() {
			return nil
		}
		sum, err := describe(l.sel.tree, it, l.opt.ResetOwner, func(it item) (digest.Digest, error) {
			if memory != nil {
				if d, ok := memory.recall(l.sel.tree, it.name, it.entry); ok {
					return d, nil
				}
			}
			l.pending = append(l.pending, pendingSum{item: it, at: len(l.table)})
			return "", nil
		})
		l.table = append(l.table, sum)
		if err == nil && len(l.pending) == maxPending {
			err = l.hash(ctx)
		}
		return err
	})
}

// hash fills in the digests that are missing.
func (l *listing) hash(ctx context.Context) error {
	err := inParallel(ctx, len(l.pending), func(ctx context.Context, i int) (err error) {
		p := l.pending[i]
		l.table[p.at].Digest, err = l.sums.Sum(ctx, l.sel.tree, p.item.name, p.item.entry)
		return err
	})
	l.pending = l.pending[:0]
	return err
}

// identity encodes a selection into a hash, without ambiguity: every string is
// preceded by its length.
type identity struct {
	h   hash.Hash
	buf []byte
}

func (id *identity) match(m match, archive bool, sums []Sum) {
	switch {
	case archive:
		id.buf = append(id.buf[:0], 'a')
		id.buf = appendString(id.buf, string(sums[0].Digest))
		id.h.Write(id.buf)
		return
	case m.entry.Kind == snapshot.Dir:
		id.buf = append(id.buf[:0], 'd')
	default:
		id.buf = append(id.buf[:0], 'f')
		id.buf = appendString(id.buf, m.base)
	}
	id.buf = binary.AppendUvarint(id.buf, uint64(len(sums)))
	id.h.Write(id.buf)
	for _, s := range sums {
		rel := ""
		if m.entry.Kind == snapshot.Dir {
			rel = s.Name
			if m.name != "." {
				rel = strings.TrimPrefix(s.Name, m.name+"/")
			}
		}
		id.buf = appendString(id.buf[:0], rel)
		id.buf = binary.AppendUvarint(id.buf, uint64(s.Mode))
		id.buf = binary.AppendUvarint(id.buf, uint64(s.UID))
		id.buf = binary.AppendUvarint(id.buf, uint64(s.GID))
		id.buf = appendString(id.buf, string(s.Digest))
		id.h.Write(id.buf)
	}
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
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

func (r *hashReader) digest() digest.Digest { return digest.NewDigest(digest.SHA256, r.h) }
