package layertar

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Decompress returns the plain bytes of r, which may be compressed by gzip, zstd,
// bzip2 or xz, as its first bytes tell, or not at all. The caller must close the
// result; r stays open.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(10)
	if err != nil && err != io.EOF {
		return nil, err
	}
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case starts("\x1f\x8b\x08"):
		return gzip.NewReader(b)
	case starts("\x28\xb5\x2f\xfd"), isSkippable(head):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case isBzip2(head):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case starts("\xfd7zXZ\x00"):
		z, err := xz.NewReader(b)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	}
	return io.NopCloser(b), nil
}

// maxWindow bounds what a zstd stream may make us keep in memory; it is what the
// format's own tool uses at its highest level (zstd --ultra -22).
const maxWindow = 128 << 20

// isSkippable tells a zstd skippable frame, 0x184D2A50 to 5F (RFC 8878, 3.1.2),
// with which seekable variants of the format begin.
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// isBzip2 tells the beginning of a bzip2 stream: "BZh", a digit, and the mark of
// a block or of the end. "BZh" alone may be the name of a tar's first file.
func isBzip2(head []byte) bool {
	if len(head) < 10 || string(head[:3]) != "BZh" {
		return false
	}
	mark := string(head[4:10])
	return mark == "1AY&SY" || mark == "\x17rE8P\x90"
}
