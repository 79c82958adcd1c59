package fileset

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"sort"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// An index file, all numbers big-endian:
//
//	blocks   4096 bytes each: 62 records, sorted by key, and crc32c of them
//	fences   16 bytes each: the key of each block's first record
//	trailer  count of records 8 | "laminaX2" | crc32c of fences and trailer 4
//
//	record   key 16 | check 16 | used 2 | sha256 32
//	key      hash of the tree's path on this machine and the directory 8 |
//	         hash of the file's name there 8
//	check    hash of the directory, the name and what stat(2) says of the file
//	used     day of the last use, counted from 1970
//
// A lookup reads one block, and those of a directory's files mostly the same one.
const (
	indexMagic  = "laminaX2"
	recordSize  = 66
	perBlock    = 62
	blockSize   = recordSize*perBlock + 4
	fenceSize   = 16
	trailerSize = 20
)

type (
	dirID [8]byte
	key   struct {
		dir  dirID
		name uint64
	}
	check  [16]byte
	record [recordSize]byte
)

func newRecord(k key, c check, day uint16, d digest.Digest) (r record, ok bool) {
	copy(r[:], k.bytes())
	copy(r[16:], c[:])
	r.setUsed(day)
	if d.Algorithm() != digest.SHA256 || hex.DecodedLen(len(d.Encoded())) != len(r.sum()) {
		return r, false
	}
	_, err := hex.Decode(r.sum(), []byte(d.Encoded()))
	return r, err == nil
}

func (r *record) key() key {
	return key{dir: dirID(r[:8]), name: binary.BigEndian.Uint64(r[8:])}
}

func (r *record) check() check       { return check(r[16:32]) }
func (r *record) used() uint16       { return binary.BigEndian.Uint16(r[32:]) }
func (r *record) setUsed(day uint16) { binary.BigEndian.PutUint16(r[32:], day) }
func (r *record) sum() []byte        { return r[34:] }

func (k key) bytes() []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, fenceSize), k.dir[:]...), k.name)
}

// indexFile is an open index file, which does not change. A nil one is empty. It
// is not safe for concurrent use.
type indexFile struct {
	file   *os.File
	count  int
	fences []byte
	cache  [cachedBlocks]struct {
		data []byte
		n    int
	}
}

// cachedBlocks is how many blocks are kept in memory.
const cachedBlocks = 64

// openIndexFile opens an index file. One that cannot be trusted is nil.
func openIndexFile(name string) (*indexFile, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := newIndexFile(f)
	if x == nil {
		f.Close()
	}
	return x, err
}

func newIndexFile(f *os.File) (*indexFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := st.Size()
	blocks := (size - trailerSize) / (blockSize + fenceSize)
	if size < trailerSize || size != trailerSize+blocks*(blockSize+fenceSize) {
		return nil, nil
	}
	end := make([]byte, blocks*fenceSize+trailerSize)
	if _, err := f.ReadAt(end, blocks*blockSize); err != nil {
		return nil, err
	}
	fences, trailer := end[:blocks*fenceSize], end[blocks*fenceSize:]
	body := len(end) - 4
	if !bytes.Equal(trailer[8:16], []byte(indexMagic)) || checksum(end[:body]) != binary.BigEndian.Uint32(end[body:]) {
		return nil, nil
	}
	count := binary.BigEndian.Uint64(trailer)
	if (count+perBlock-1)/perBlock != uint64(blocks) {
		return nil, nil
	}
	return &indexFile{file: f, count: int(count), fences: fences}, nil
}

func (x *indexFile) close() error {
	if x == nil {
		return nil
	}
	return x.file.Close()
}

// find returns the record of k.
func (x *indexFile) find(k key) (record, bool) {
	if x == nil {
		return record{}, false
	}
	want := k.bytes()
	n := sort.Search(len(x.fences)/fenceSize, func(i int) bool {
		return bytes.Compare(x.fences[i*fenceSize:(i+1)*fenceSize], want) > 0
	}) - 1
	if n < 0 {
		return record{}, false
	}
	slot := &x.cache[n%cachedBlocks]
	if slot.data == nil || slot.n != n {
		slot.data, slot.n = x.block(n, slot.data), n
	}
	records := slot.data
	i := sort.Search(len(records)/recordSize, func(i int) bool {
		return bytes.Compare(records[i*recordSize:i*recordSize+fenceSize], want) >= 0
	})
	if i*recordSize == len(records) || !bytes.Equal(records[i*recordSize:i*recordSize+fenceSize], want) {
		return record{}, false
	}
	return record(records[i*recordSize:]), true
}

// block reads the records of block n to buf. There are none in a damaged one.
func (x *indexFile) block(n int, buf []byte) []byte {
	if cap(buf) < blockSize {
		buf = make([]byte, blockSize)
	}
	buf = buf[:blockSize]
	body := blockSize - 4
	_, err := x.file.ReadAt(buf, int64(n)*blockSize)
	if err != nil || checksum(buf[:body]) != binary.BigEndian.Uint32(buf[body:]) {
		return buf[:0]
	}
	return buf[:min(perBlock, x.count-n*perBlock)*recordSize]
}

// all returns every record, in order.
func (x *indexFile) all() iter.Seq[record] {
	return func(yield func(record) bool) {
		if x == nil {
			return
		}
		var buf []byte
		for n := range len(x.fences) / fenceSize {
			buf = x.block(n, buf)
			for r := range slices.Chunk(buf, recordSize) {
				if !yield(record(r)) {
					return
				}
			}
		}
	}
}

// CheckIndex tells whether an index file is damaged, in whole or in part. One that
// does not exist is not.
func CheckIndex(file string) (damaged bool, err error) {
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	x, err := openIndexFile(file)
	if err != nil || x == nil {
		return x == nil, err
	}
	defer x.close()
	var buf []byte
	for n := range len(x.fences) / fenceSize {
		if buf = x.block(n, buf); len(buf) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// RepairIndex writes an index file anew without what is damaged of it.
func RepairIndex(file string) error {
	x, err := replaceIndex(file, nil, 0)
	return errors.Join(err, x.close())
}

// merge returns the records of old, which are sorted, and fresh, in order. Where
// both have a key, that of fresh counts.
func merge(old iter.Seq[record], fresh map[key]record) iter.Seq[record] {
	return func(yield func(record) bool) {
		news := slices.SortedFunc(maps.Values(fresh), func(a, b record) int {
			return bytes.Compare(a[:fenceSize], b[:fenceSize])
		})
		for r := range old {
			for len(news) > 0 && bytes.Compare(news[0][:fenceSize], r[:fenceSize]) < 0 {
				if !yield(news[0]) {
					return
				}
				news = news[1:]
			}
			if _, replaced := fresh[r.key()]; replaced {
				continue
			}
			if !yield(r) {
				return
			}
		}
		for _, r := range news {
			if !yield(r) {
				return
			}
		}
	}
}

// writeRecords writes an index of records, which are sorted, without those that
// nobody used lately.
func writeRecords(w io.Writer, records iter.Seq[record], today uint16) error {
	out := bufio.NewWriterSize(w, 16*blockSize)
	var end []byte
	count := uint64(0)
	block := make([]byte, 0, blockSize)
	flush := func() {
		block = append(block, make([]byte, blockSize-4-len(block))...)
		out.Write(binary.BigEndian.AppendUint32(block, checksum(block)))
		block = block[:0]
	}
	for r := range records {
		if r.used()+keepUnused <= today {
			continue
		}
		if len(block) == 0 {
			end = append(end, r[:fenceSize]...)
		}
		block = append(block, r[:]...)
		count++
		if len(block) == perBlock*recordSize {
			flush()
		}
	}
	if len(block) > 0 {
		flush()
	}
	end = binary.BigEndian.AppendUint64(end, count)
	end = append(end, indexMagic...)
	out.Write(binary.BigEndian.AppendUint32(end, checksum(end)))
	return out.Flush() // has the error of any Write
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// replaceIndex adds records to an index file, by writing another one in its place,
// and opens that. It writes to file.new, whose lock it holds: if a process dies
// here, the next one writes over what it left. If another process is just doing
// the same, it does nothing and returns nil.
func replaceIndex(file string, fresh map[key]record, today uint16) (*indexFile, error) {
	next := file + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	// Whoever held the lock before may have renamed this very file, which is the
	// index now and must not be touched.
	if same, err := isFile(f, next); err != nil || !same {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	// Another process may have saved since this one opened the index.
	old, err := openIndexFile(file)
	if err != nil {
		return nil, err
	}
	defer old.close()
	if err := writeRecords(f, merge(old.all(), fresh), today); err != nil {
		return nil, err
	}
	if err := os.Rename(next, file); err != nil {
		return nil, err
	}
	return openIndexFile(file)
}

// isFile tells whether name is still the open file f.
func isFile(f *os.File, name string) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, there), err
}
