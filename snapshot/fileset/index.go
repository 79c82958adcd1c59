package fileset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
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
// The key is a hash of the tree's path on this machine, the file's path in it and
// its inode number. Times are Unix nanoseconds. Used is the day of the last use,
// counted from 1970.
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
	// refreshUsed is how old, in days, a record's last use must be to be worth
	// writing.
	refreshUsed = 7
	// maxFresh is how many records are kept beside the sorted ones.
	maxFresh = 1 << 14
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
	known []byte // sorted records; replaced, never changed
	dirty bool   // known has what the file lacks
	// fresh are records to be merged into known, which many at a time are.
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
		known: old,
		fresh: map[[keySize]byte]record{},
	}, nil
}

// Sum implements [Sums].
func (x *Index) Sum(
	ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry,
) (digest.Digest, error) {
	if d, ok := x.recall(t, name, e); ok {
		return d, nil
	}
	// What is older than this moment cannot change any more without a new ctime.
	start := x.now()
	d, err := Hash{}.Sum(ctx, t, name, e)
	if err != nil || !settled(e, start) {
		return d, err
	}
	if r, ok := newRecord(keyOf(t, name, e), e, x.today, d); ok {
		x.learn(r)
	}
	return d, nil
}

func (x *Index) learn(r record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh[[keySize]byte(r[:])] = r
	if len(x.fresh) >= maxFresh {
		x.fold()
	}
}

// fold merges what is fresh into what is known. The caller holds x.mu.
func (x *Index) fold() {
	if len(x.fresh) > 0 {
		x.known = merge(x.known, sorted(x.fresh))
		x.dirty = true
		clear(x.fresh)
	}
}

// recall returns the sum of a file that is as it was when it was hashed.
func (x *Index) recall(t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, bool) {
	if e.ChangeTime.IsZero() {
		return "", false
	}
	key := keyOf(t, name, e)
	x.mu.Lock()
	f, isFresh := x.fresh[key]
	known := x.known
	x.mu.Unlock()
	r := f[:]
	if !isFresh {
		r = find(known, key[:])
	}
	var stat [statSize]byte
	putStat(stat[:], e)
	if r == nil || !bytes.Equal(r[keySize:usedOffset], stat[:]) {
		return "", false
	}
	if used := binary.BigEndian.Uint32(r[usedOffset:]); used+refreshUsed <= x.today {
		touched := record(r)
		binary.BigEndian.PutUint32(touched[usedOffset:], x.today)
		x.learn(touched)
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(r[sumOffset:])), true
}

// settled tells whether a change of the file after the moment start would show in
// its times. Kernels take the time of a change from a clock that ticks at least
// every 10 ms. A filesystem that keeps whole seconds, or pairs of them, is
// recognised by that.
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

// sorted returns records as a file has them.
func sorted(records map[[keySize]byte]record) []byte {
	all := slices.SortedFunc(maps.Values(records), func(a, b record) int {
		return bytes.Compare(a[:keySize], b[:keySize])
	})
	out := make([]byte, 0, len(all)*recordSize)
	for _, r := range all {
		out = append(out, r[:]...)
	}
	return out
}

// merge returns the records of a and b, all of them sorted. Where both have a
// key, b's counts.
func merge(a, b []byte) []byte {
	out := make([]byte, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch bytes.Compare(a[:keySize], b[:keySize]) {
		case -1:
			out, a = append(out, a[:recordSize]...), a[recordSize:]
		case 0:
			a = a[recordSize:]
		default:
			out, b = append(out, b[:recordSize]...), b[recordSize:]
		}
	}
	return append(append(out, a...), b...)
}

// current returns the records that were used lately.
func current(records []byte, today uint32) []byte {
	out := make([]byte, 0, len(records))
	for r := range slices.Chunk(records, recordSize) {
		if binary.BigEndian.Uint32(r[usedOffset:])+keepUnused > today {
			out = append(out, r...)
		}
	}
	return out
}
