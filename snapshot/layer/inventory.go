package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// An inventory is a layer's list as other machines get it: what a COPY or a bind mount
// can tell of the layer, and no more. It is a list (see [ReadList]), compressed with
// zstd, in which no times are, no sockets, and nothing of the root. The digests of files are
// there, or, of a layer of which nobody is expected to copy files, are not.

// InventoryType is the media type of an inventory.
const InventoryType = "application/vnd.lamina.layer.list.v1+zstd"

// What is read of an inventory, which a stranger may have written.
const (
	maxInventory      = 64 << 20 // bytes, not compressed
	maxInventoryItems = 250_000
)

// WriteInventory writes the inventory of the layer id to w. With digests it reads the
// files whose digests nobody needed before.
func (p *Pool) WriteInventory(ctx context.Context, id snapshot.ID, digests bool, w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	list := NewListWriter(z)
	for l, err := range p.inventory(ctx, id, digests) {
		if err == nil {
			err = list.Add(&l)
		}
		if err != nil {
			return errors.Join(err, z.Close())
		}
	}
	return errors.Join(list.Close(), z.Close())
}

// inventory returns the items of an inventory. After an error there are no more.
func (p *Pool) inventory(ctx context.Context, id snapshot.ID, digests bool) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		list, err := p.openList(ctx, id, digests)
		if err != nil {
			yield(Listed{}, err)
			return
		}
		defer list.Close()
		for l, err := range ReadList(list) {
			if err == nil && l.Kind == snapshot.Socket {
				continue // no archive has it
			}
			if err == nil {
				l.reduce(digests)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

func (p *Pool) openList(ctx context.Context, id snapshot.ID, digests bool) (io.ReadCloser, error) {
	if digests {
		if err := p.CompleteList(ctx, id); err != nil {
			return nil, err
		}
	}
	d, err := p.Open(id)
	if err != nil {
		return nil, err
	}
	return d.OpenList()
}

// reduce leaves of l what an inventory has.
func (l *Listed) reduce(digests bool) {
	if l.Path == "." {
		*l = Listed{Path: ".", Item: Item{Entry: snapshot.Entry{Name: ".", Kind: snapshot.Dir}, Opaque: l.Opaque, Implied: true}}
		imply(&l.Entry)
	}
	if l.Whiteout || l.Same != "" {
		return
	}
	l.ModTime = time.Unix(0, 0).UTC()
	if l.Kind == snapshot.File { // a list has one or the other of each
		l.CRC, l.HasCRC = 0, !digests
		if !digests {
			l.Digest = ""
		}
	}
}

// readInventory returns the items of an inventory, which is in memory: what cannot be
// read is damaged.
func readInventory(r io.Reader) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxInventory))
		if err != nil {
			yield(Listed{}, fmt.Errorf("%w: %w", ErrListDamaged, err))
			return
		}
		defer z.Close()
		n := 0
		for l, err := range ReadList(io.LimitReader(z, maxInventory)) {
			if n++; err == nil && n > maxInventoryItems {
				err = fmt.Errorf("%w: it has more than %d items", ErrListDamaged, maxInventoryItems)
			}
			if err != nil && !errors.Is(err, ErrListDamaged) { // what zstd says
				err = fmt.Errorf("%w: %w", ErrListDamaged, err)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// CheckInventory compares the inventory data with the layer id: a *[DamagedError] says what is
// not as the inventory has it. Digests that it leaves out are not missed.
func (p *Pool) CheckInventory(ctx context.Context, id snapshot.ID, data []byte) error {
	nextWant, stopWant := iter.Pull2(readInventory(bytes.NewReader(data)))
	defer stopWant()
	nextHave, stopHave := iter.Pull2(p.inventory(ctx, id, true))
	defer stopHave()
	for {
		want, err := pull(nextWant)
		if err != nil {
			return err
		}
		have, err := pull(nextHave)
		if err != nil {
			return err
		}
		if want == nil && have == nil {
			return nil
		}
		if d := differentItem(have, want); d.What != "" {
			return &DamagedError{ID: id, First: d}
		}
	}
}

// differentItem says in what an inventory is not true.
func differentItem(have, want *Listed) Difference {
	switch {
	case want == nil || have != nil && before(have, want) && have.Path != want.Path:
		return Difference{Path: have.Path, What: "is not in the list"}
	case have == nil || have.Path != want.Path:
		return Difference{Path: want.Path, What: "is in the list alone"}
	case want.Digest == "" && want.needsDigest():
		have.Digest, have.CRC, have.HasCRC = "", want.CRC, want.HasCRC
	}
	if have.Item != want.Item || have.Same != want.Same || have.Digest != want.Digest || !maps.Equal(have.Xattrs, want.Xattrs) {
		return Difference{Path: have.Path, What: "is not what the list says"}
	}
	return Difference{}
}

// List is a layer of which only the inventory is here, for [NewStack].
type List struct {
	items map[string]*Listed
	names map[string][]string // what is in each directory, sorted
	links map[string]uint64   // how many names a file has that has several, by the first
	dev   uint64
}

// LoadList reads an inventory.
func LoadList(data []byte) (*List, error) {
	l := &List{items: map[string]*Listed{}, names: map[string][]string{}, links: map[string]uint64{}, dev: rand.Uint64()}
	for it, err := range readInventory(bytes.NewReader(data)) {
		if err != nil {
			return nil, err
		}
		if it.Same != "" {
			first := l.items[it.Same]
			if first == nil || first.Same != "" || first.Whiteout || first.Kind == snapshot.Dir {
				return nil, fmt.Errorf("%w: %s is a name of nothing", ErrListDamaged, it.Path)
			}
			l.links[it.Same] = max(l.links[it.Same], 1) + 1
		}
		l.items[it.Path] = &it
		if it.Path != "." {
			dir, name := split(it.Path)
			l.names[dir] = append(l.names[dir], name)
		}
	}
	for _, names := range l.names {
		slices.Sort(names)
	}
	return l, nil
}

// Lstat is as of a [Dir].
func (l *List) Lstat(name string) (Item, error) {
	it := l.items[name]
	if it == nil {
		return Item{}, notExist("lstat", name)
	}
	item := l.first(it).Item
	item.Name = it.Name
	if n := l.links[l.first(it).Path]; n > 0 {
		item.Dev, item.Ino, item.Nlink = l.dev, inodeOf(l.first(it).Path), n
	} else {
		item.Nlink = 1
	}
	return item, nil
}

// first is the item that says what it is.
func (l *List) first(it *Listed) *Listed {
	if it.Same != "" {
		return l.items[it.Same]
	}
	return it
}

// inodeOf tells files of a list apart, as far as 64 bits of SHA-256 do.
func inodeOf(first string) uint64 {
	var n uint64
	for _, b := range []byte(digest.FromString(first).Encoded()[:16]) {
		n = n<<4 | uint64(strings.IndexByte("0123456789abcdef", b))
	}
	return n
}

// ReadDir is as of a [Dir].
func (l *List) ReadDir(name string) ([]Item, error) {
	it := l.items[name]
	if it == nil || it.Kind != snapshot.Dir {
		return nil, notExist("readdir", name)
	}
	items := make([]Item, 0, len(l.names[name]))
	for _, base := range l.names[name] {
		item, err := l.Lstat(join(name, base))
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// Xattrs is as of a [Dir].
func (l *List) Xattrs(name string) (map[string]string, error) {
	it := l.items[name]
	if it == nil {
		return nil, notExist("xattrs", name)
	}
	return l.first(it).Xattrs, nil
}

// ErrNoContent reports a file of a layer of which only the inventory is here.
var ErrNoContent = errors.New("only the list of the layer is here")

func (l *List) open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNoContent}
}
