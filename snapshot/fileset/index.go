package fileset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// An index file, all numbers big-endian:
//
//	magic    8 bytes "laminaX1"
//	records  76 bytes each, sorted by key
//	crc32c   4 bytes, of everything before
//
//	record   key 16 | size 8 | mtime 8 | ctime 8 | used 4 | sha256 32
//
// The key is a hash of the tree's path on this machine, the file's path in it and its inode
// number; times are Unix nanoseconds; used is the day of the last use since 1970.
const (
	indexMagic  = "laminaX1"
	recordSize  = 76
	keySize     = 16
	statSize    = 24 // size, mtime and ctime follow the key
	usedOffset  = keySize + statSize
	sumOffset   = usedOffset + 4
	trailerSize = 4
)

const (
	// keepUnused is after how many days a record that nobody used goes.
	keepUnused = 60
	// refreshUsed is how many days old a record's last use must be to be worth writing.
	refreshUsed = 7
)

// Index remembers the sums of files by what stat(2) says of them, so that files
// that did not change are not read again. It implements [Sums], and is safe for
// concurrent use. One index can serve any number of trees and processes.
//
// A file is taken to be the one remembered if path, inode, size, modification
// and change time are the same. A change that is too fresh for its time to tell
// it from another one in the same tick of the clock is never remembered, which is
// the rule that git's index has for "racily clean" files.
type Index struct {
	file  string
	now   func() time.Time
	today uint32 // days since 1970

	mu    sync.Mutex
	old   []byte // records as in the file, sorted; replaced, never changed
	fresh map[[keySize]byte]record
}

type record [recordSize]byte

// OpenIndex opens the index in file. One that is missing, damaged or of another
// version is empty: an index only saves time.
func OpenIndex(file string) (*Index, error) {
	return openIndex(file, time.Now)
}

func openIndex(file string, now func() time.Time) (*Index, error) {
	old, err := readIndex(file)
	if err != nil {
		return nil, err
	}
	return &Index{
		file:  file,
		now:   now,
		today: uint32(now().Unix() / (24 * 60 * 60)),
		old:   old,
		fresh: map[[keySize]byte]record{},
	}, nil
}

// Sum implements [Sums].
func (x *Index) Sum(ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, error) {
	if d, ok := x.known(t, name, e); ok {
		return d, nil
	}
	// What is older than this moment cannot change any more without a new ctime.
	start := x.now()
	d, err := Hash{}.Sum(ctx, t, name, e)
	if err != nil || !settled(e, start) {
		return d, err
	}
	r, ok := newRecord(keyOf(t, name, e), e, x.today, d)
	if ok {
		x.mu.Lock()
		x.fresh[[keySize]byte(r[:])] = r
		x.mu.Unlock()
	}
	return d, nil
}

// known returns the sum of a file that is as it was when it was hashed.
func (x *Index) known(t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, bool) {
	if e.ChangeTime.IsZero() {
		return "", false
	}
	key := keyOf(t, name, e)
	x.mu.Lock()
	f, isFresh := x.fresh[key]
	old := x.old
	x.mu.Unlock()
	r := f[:]
	if !isFresh {
		r = find(old, key[:])
	}
	var stat [statSize]byte
	putStat(stat[:], e)
	if r == nil || !bytes.Equal(r[keySize:usedOffset], stat[:]) {
		return "", false
	}
	if used := binary.BigEndian.Uint32(r[usedOffset:]); used+refreshUsed <= x.today {
		x.touch(r)
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(r[sumOffset:])), true
}

// touch notes that a record is used today.
func (x *Index) touch(r []byte) {
	f := record(r)
	binary.BigEndian.PutUint32(f[usedOffset:], x.today)
	x.mu.Lock()
	x.fresh[[keySize]byte(f[:])] = f
	x.mu.Unlock()
}

// settled tells whether a change of the file after the moment start would show
// in its times. Kernels take the time of a change from a clock that ticks at least
// every 10 ms; filesystems that keep whole seconds, or pairs of them, are recognised by that.
func settled(e snapshot.Entry, start time.Time) bool {
	if e.ChangeTime.IsZero() {
		return false
	}
	tick := 20 * time.Millisecond
	if e.ChangeTime.Nanosecond() == 0 {
		tick = 2 * time.Second
	}
	return e.ChangeTime.Add(tick).Before(start) && e.ModTime.Add(tick).Before(start)
}

func keyOf(t snapshot.Tree, name string, e snapshot.Entry) [keySize]byte {
	root := rootPath(t)
	b := make([]byte, 0, 128)
	b = appendString(b, root)
	b = appendString(b, name)
	b = binary.BigEndian.AppendUint64(b, e.Ino)
	sum := sha256.Sum256(b)
	return [keySize]byte(sum[:])
}

func newRecord(key [keySize]byte, e snapshot.Entry, day uint32, d digest.Digest) (r record, ok bool) {
	copy(r[:], key[:])
	putStat(r[keySize:], e)
	binary.BigEndian.PutUint32(r[usedOffset:], day)
	n, err := hex.Decode(r[sumOffset:], []byte(d.Encoded()))
	return r, err == nil && n == sha256.Size && d.Algorithm() == digest.SHA256
}

func putStat(b []byte, e snapshot.Entry) {
	binary.BigEndian.PutUint64(b, uint64(e.Size))
	binary.BigEndian.PutUint64(b[8:], uint64(e.ModTime.UnixNano()))
	binary.BigEndian.PutUint64(b[16:], uint64(e.ChangeTime.UnixNano()))
}

// find returns the record of key in sorted records, or nil.
func find(records, key []byte) []byte {
	lo, hi := 0, len(records)/recordSize
	for lo < hi {
		mid := (lo + hi) / 2
		r := records[mid*recordSize : (mid+1)*recordSize]
		switch bytes.Compare(r[:keySize], key) {
		case 0:
			return r
		case -1:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return nil
}

// merge returns the records of old with those of fresh in their place, sorted,
// without what nobody has used for long.
func merge(old []byte, fresh map[[keySize]byte]record, today uint32) []byte {
	add := make([]record, 0, len(fresh))
	for _, r := range fresh {
		add = append(add, r)
	}
	slices.SortFunc(add, func(a, b record) int { return bytes.Compare(a[:keySize], b[:keySize]) })
	out := make([]byte, 0, len(old)+len(add)*recordSize)
	for len(old) > 0 {
		r := old[:recordSize]
		for len(add) > 0 && bytes.Compare(add[0][:keySize], r[:keySize]) < 0 {
			out, add = append(out, add[0][:]...), add[1:]
		}
		old = old[recordSize:]
		replaced := len(add) > 0 && bytes.Equal(add[0][:keySize], r[:keySize])
		if !replaced && binary.BigEndian.Uint32(r[usedOffset:])+keepUnused > today {
			out = append(out, r...)
		}
	}
	for _, r := range add {
		out = append(out, r[:]...)
	}
	return out
}
