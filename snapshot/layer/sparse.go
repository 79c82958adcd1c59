package layer

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"
)

const (
	copySize = 128 << 10 // bytes read at once; a multiple of holeSize
	holeSize = 16 << 10  // the least run of zeros, so aligned, that becomes a hole
)

// copyBuffer is what copySparse works with, too large to make for every file.
type copyBuffer struct {
	data  [copySize]byte
	zeros [holeSize]byte // stays so
}

// copySparse writes all of r to the empty file fd, and leaves holes where r has
// long runs of zeros. It returns how many bytes that were and, if it is wanted, their
// CRC-32C.
func copySparse(fd int, r io.Reader, b *copyBuffer, withCRC bool) (size int64, crc uint32, err error) {
	buf := b.data[:]
	hole := func(part []byte) bool { return bytes.Equal(part, b.zeros[:]) }
	var written int64
	for {
		n, err := fill(r, buf)
		if withCRC {
			crc = CRC(crc, buf[:n])
		}
		for at := 0; at < n; {
			end := min(at+holeSize, n)
			if hole(buf[at:end]) {
				at = end
				continue
			}
			for end < n { // data up to the next hole goes in one call
				next := min(end+holeSize, n)
				if hole(buf[end:next]) {
					break
				}
				end = next
			}
			if err := pwrite(fd, buf[at:end], size+int64(at)); err != nil {
				return 0, 0, err
			}
			written = size + int64(end)
			at = end
		}
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if written < size {
		err = unix.Ftruncate(fd, size)
	}
	return size, crc, err
}

// fill reads until buf is full or r has no more, which is io.EOF, or fails.
func fill(r io.Reader, buf []byte) (int, error) {
	n, empty := 0, 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

func pwrite(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
