package layer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"lamina/snapshot"
)

// A list is a file of blocks, so that nothing is believed that was not verified:
//
//	file    "lamina-list-1\n" | blocks | block of length 0
//	block   length 4 | CRC-32C of the block's number and its bytes 4 | bytes
//
// Numbers of fixed length are big-endian; the others, and those that precede
// strings, are varints. An item, which is never in two blocks:
//
//	item     flags | bytes shared with the path before | rest of the path | …
//	  whiteout:    nothing more
//	  other name:  Same
//	  otherwise:   mode | UID | GID | seconds, signed, since the item before | nanoseconds
//	               file: size | SHA-256, if flagged | CRC-32C, if flagged
//	               link: its target; device: major | minor
//	               if flagged: number of attributes | each one's name and value
//
// Equal layers make equal lists.
const (
	listMagic    = "lamina-list-1\n"
	blockHead    = 8
	blockTarget  = 32 << 10 // bytes after which a block ends
	maxListBlock = 16 << 20 // no item is larger: its attributes fit a kernel's list of 64 KiB
)

const (
	kindFlags   = 7 // the lowest bits are the kind, or one of these two
	kindHidden  = 7
	flagOpaque  = 1 << 3
	flagImplied = 1 << 4
	flagXattrs  = 1 << 5
	flagDigest  = 1 << 6
	flagCRC     = 1 << 7
	flagSame    = 1 << 8
	flagsEnd    = 1 << 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ListWriter writes a list.
type ListWriter struct {
	w      io.Writer
	buf    []byte // the block so far, after room for its head
	number uint32
	order  order
	// anyOrder lets items come in any order, as a draft's do.
	anyOrder bool
	path     string // of the item before
	seconds  int64  // and its time
}

// NewListWriter returns a writer of a list to w.
func NewListWriter(w io.Writer) *ListWriter {
	lw := &ListWriter{w: w}
	lw.begin()
	return lw
}

func (w *ListWriter) begin() {
	w.buf = append(w.buf[:0], make([]byte, blockHead)...)
}

// ErrUnlistable reports an item that no list can have: its name is longer than any
// process could use, for example.
var ErrUnlistable = errors.New("the layer cannot be listed")

// Add writes one item. Items come in the order of [Dir.Walk].
func (w *ListWriter) Add(l *Listed) error {
	err := l.check()
	if err == nil && !w.anyOrder {
		err = w.order.next(l)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnlistable, err)
	}
	w.append(l)
	if len(w.buf) < blockTarget {
		return nil
	}
	return w.flush()
}

func (w *ListWriter) append(l *Listed) {
	flags := uint64(l.Kind)
	shared := sharedPrefix(w.path, l.Path)
	switch {
	case l.Whiteout:
		flags = kindHidden
	case l.Same != "":
		flags = flagSame
	default:
		flags |= flagIf(l.Opaque, flagOpaque) | flagIf(l.Implied, flagImplied) | flagIf(len(l.Xattrs) > 0, flagXattrs)
		if l.Kind == snapshot.File {
			flags |= flagIf(l.Digest != "", flagDigest) | flagIf(l.HasCRC, flagCRC)
		}
	}
	b := binary.AppendUvarint(w.buf, flags)
	b = binary.AppendUvarint(b, uint64(shared))
	b = appendString(b, l.Path[shared:])
	w.path = l.Path
	switch {
	case l.Whiteout:
	case l.Same != "":
		b = appendString(b, l.Same)
	default:
		b = w.appendAttributes(b, l, flags)
	}
	w.buf = b
}

func (w *ListWriter) appendAttributes(b []byte, l *Listed, flags uint64) []byte {
	b = binary.AppendUvarint(b, uint64(l.Mode))
	b = binary.AppendUvarint(b, uint64(l.UID))
	b = binary.AppendUvarint(b, uint64(l.GID))
	seconds := l.ModTime.Unix()
	b = binary.AppendVarint(b, seconds-w.seconds)
	b = binary.AppendUvarint(b, uint64(l.ModTime.Nanosecond()))
	w.seconds = seconds
	switch l.Kind {
	case snapshot.File:
		b = binary.AppendUvarint(b, uint64(l.Size))
		if flags&flagDigest != 0 {
			b, _ = hex.AppendDecode(b, []byte(l.Digest.Encoded())) // checked
		}
		if flags&flagCRC != 0 {
			b = binary.BigEndian.AppendUint32(b, l.CRC)
		}
	case snapshot.Symlink:
		b = appendString(b, l.Link)
	case snapshot.CharDevice, snapshot.BlockDevice:
		b = binary.AppendUvarint(b, uint64(l.Major))
		b = binary.AppendUvarint(b, uint64(l.Minor))
	}
	if flags&flagXattrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(l.Xattrs)))
		for _, k := range slices.Sorted(maps.Keys(l.Xattrs)) {
			b = appendString(appendString(b, k), l.Xattrs[k])
		}
	}
	return b
}

func flagIf(set bool, flag uint64) uint64 {
	if set {
		return flag
	}
	return 0
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func sharedPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// flush writes the block and begins another one, which knows nothing of it.
func (w *ListWriter) flush() error {
	body := w.buf[blockHead:]
	if len(body) > maxListBlock {
		return fmt.Errorf("%w: an item has %d bytes", ErrUnlistable, len(body))
	}
	binary.BigEndian.PutUint32(w.buf, uint32(len(body)))
	binary.BigEndian.PutUint32(w.buf[4:], blockSum(w.number, body))
	out := w.buf
	if w.number == 0 {
		out = append([]byte(listMagic), out...)
	}
	_, err := w.w.Write(out)
	w.number++
	w.path, w.seconds = "", 0
	w.begin()
	return err
}

// Close ends the list, but does not close what it was written to. A list that was
// not closed is a damaged one.
func (w *ListWriter) Close() error {
	if len(w.buf) > blockHead {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return w.flush()
}

func blockSum(number uint32, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint32(nil, number), castagnoli), castagnoli, body)
}
