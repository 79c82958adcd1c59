package layer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// ErrListDamaged reports a list that is not as it was written.
var ErrListDamaged = errors.New("the list is damaged")

// ReadList returns the items of the list r, in the order of [Dir.Walk]. What is
// returned was verified, and so was, when it ends without an error, that nothing
// is missing. After an error there is nothing more. The memory that it takes does not
// depend on the list's length.
func ReadList(r io.Reader) iter.Seq2[Listed, error] { return readList(r, new(order)) }

// readList is ReadList. A nil order lets items come in any.
func readList(r io.Reader, o *order) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		stopped := false
		err := readBlocks(r, func(body []byte) error {
			d := listDecoder{b: body}
			for len(d.b) > 0 {
				l, err := d.item()
				if err == nil {
					err = l.check()
				}
				if err == nil && o != nil {
					err = o.next(&l)
				}
				if err != nil {
					return fmt.Errorf("%w: %w", ErrListDamaged, err)
				}
				if !yield(l, nil) {
					stopped = true
					return io.EOF
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Listed{}, err)
		}
	}
}

// readBlocks calls fn with each block, verified, and ends at the first error.
func readBlocks(r io.Reader, fn func(body []byte) error) error {
	magic := make([]byte, len(listMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != listMagic {
		return truncated(err, "it does not begin as one")
	}
	var head [blockHead]byte
	var body []byte
	for number := uint32(0); ; number++ {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return truncated(err, "it has no end")
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > maxListBlock {
			return truncated(nil, "a block is too large")
		}
		var err error
		if body, err = readN(r, body, int(size)); err != nil {
			return truncated(err, "it has no end")
		}
		if blockSum(number, body) != binary.BigEndian.Uint32(head[4:]) {
			return truncated(nil, "a block has another checksum")
		}
		if size == 0 {
			break
		}
		if err := fn(body); err != nil {
			return err
		}
	}
	if n, err := r.Read(head[:1]); n > 0 || err != io.EOF && err != nil {
		return truncated(err, "something follows its end")
	}
	return nil
}

// readN reads n bytes, and makes room for them as they come: a damaged head may
// promise many.
func readN(r io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		part := min(n-len(buf), 64<<10)
		buf = slices.Grow(buf, part)
		m, err := io.ReadFull(r, buf[len(buf):len(buf)+part])
		buf = buf[:len(buf)+m]
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// truncated tells a damaged list from one that could not be read.
func truncated(err error, how string) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%w: %s", ErrListDamaged, how)
}

// listDecoder reads the items of a block.
type listDecoder struct {
	b       []byte
	path    string
	seconds int64
	bad     bool
}

var errItem = errors.New("an item makes no sense")

func (d *listDecoder) item() (l Listed, err error) {
	flags := d.uint(flagsEnd - 1)
	shared := d.uint(uint64(len(d.path)))
	rest := d.string()
	if d.bad {
		return l, errItem
	}
	l.Path = d.path[:shared] + rest
	d.path = l.Path
	_, l.Name = split(l.Path)
	switch {
	case flags == kindHidden:
		l.Kind, l.Whiteout = snapshot.CharDevice, true
	case flags == flagSame:
		l.Same = d.string()
		if l.Same == "" {
			d.bad = true
		}
	case flags&flagSame != 0 || flags&kindFlags == kindHidden:
		d.bad = true
	default:
		l.Kind = snapshot.Kind(flags & kindFlags)
		l.Opaque, l.Implied = flags&flagOpaque != 0, flags&flagImplied != 0
		d.attributes(&l, flags)
	}
	if d.bad {
		return l, errItem
	}
	return l, nil
}

func (d *listDecoder) attributes(l *Listed, flags uint64) {
	l.Mode = uint32(d.uint(0o7777))
	l.UID, l.GID = int(d.uint(math.MaxUint32)), int(d.uint(math.MaxUint32))
	d.seconds += d.int()
	l.ModTime = time.Unix(d.seconds, int64(d.uint(999_999_999))).UTC()
	switch l.Kind {
	case snapshot.File:
		l.Size = int64(d.uint(math.MaxInt64))
		if flags&flagDigest != 0 {
			l.Digest = digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(d.bytes(32)))
		}
		if l.HasCRC = flags&flagCRC != 0; l.HasCRC {
			if sum := d.bytes(4); sum != nil {
				l.CRC = binary.BigEndian.Uint32(sum)
			}
		}
	case snapshot.Symlink:
		l.Link = d.string()
	case snapshot.CharDevice, snapshot.BlockDevice:
		l.Major, l.Minor = uint32(d.uint(math.MaxUint32)), uint32(d.uint(math.MaxUint32))
	}
	if l.Kind != snapshot.File && flags&(flagDigest|flagCRC) != 0 {
		d.bad = true
	}
	if flags&flagXattrs != 0 {
		d.xattrs(l)
	}
}

func (d *listDecoder) xattrs(l *Listed) {
	l.Xattrs = map[string]string{}
	n := d.uint(uint64(len(d.b)))
	if n == 0 {
		d.bad = true
	}
	for last := ""; n > 0 && !d.bad; n-- {
		k := d.string()
		if k <= last {
			d.bad = true
		}
		l.Xattrs[k], last = d.string(), k
	}
}

// uint reads a number that is not above most.
func (d *listDecoder) uint(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *listDecoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *listDecoder) string() string { return string(d.bytes(d.uint(math.MaxInt32))) }

func (d *listDecoder) bytes(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}
