package fileset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// readIndex returns the records of an index file; none if they cannot be trusted.
func readIndex(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeIndex(data), nil
}

func decodeIndex(data []byte) []byte {
	body, magic := len(data)-trailerSize, []byte(indexMagic)
	if body < len(magic) || !bytes.HasPrefix(data, magic) {
		return nil
	}
	sum := crc32.Checksum(data[:body], crc32.MakeTable(crc32.Castagnoli))
	if sum != binary.BigEndian.Uint32(data[body:]) {
		return nil
	}
	records := data[len(magic):body]
	if len(records)%recordSize != 0 {
		return nil
	}
	return records
}

// Save writes what was learnt, if anything was. Processes that save at the same
// time leave a valid index; one of them may have to learn some of its files again.
func (x *Index) Save() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fold()
	if !x.dirty {
		return nil
	}
	// Another process may have saved since this one opened the index.
	others, err := readIndex(x.file)
	if err != nil {
		return err
	}
	x.known = current(merge(others, x.known), x.today)
	saved, err := replaceIndex(x.file, x.known)
	if err != nil {
		return fmt.Errorf("save index: %w", err)
	}
	x.dirty = !saved
	return nil
}

// replaceIndex replaces an index file by one with these records. It writes to
// file.new, whose lock it holds: if a process dies here, the next one writes over
// what it left. If another process is just doing the same, it does nothing.
func replaceIndex(file string, records []byte) (done bool, err error) {
	next := file + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	// Whoever held the lock before may have renamed this very file, which is the
	// index now and must not be touched.
	if same, err := isFile(f, next); err != nil || !same {
		return false, err
	}
	if err := f.Truncate(0); err != nil {
		return false, err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	sum.Write([]byte(indexMagic))
	sum.Write(records)
	for _, part := range [][]byte{[]byte(indexMagic), records, sum.Sum(nil)} {
		if _, err := f.Write(part); err != nil {
			return false, err
		}
	}
	return true, os.Rename(next, file)
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
