package fileset

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// TableType is the media type of a table: the sums of the files that an identity
// was made of, in their order, so that two tables can be compared in one pass. It
// is zstd-compressed text with a line for each file:
//
//	100644 0:0 sha256:5891… "src/main.go"
//
// They are the type and mode as in stat(2), in octal; the owner; the digest, or
// "-"; and the name, quoted as in Go. Equal sums make equal bytes.
const TableType = "application/vnd.lamina.files.v1+zstd"

// tableWindow bounds the memory that it takes to write or to read a table, in bytes.
const tableWindow = 256 << 10

// maxTableLine bounds the lines that are read, in bytes: a table may be somebody
// else's. A name of 4096 bytes, which is as long as they get, has four times that if
// it has to be quoted.
const maxTableLine = 64 << 10

// TableWriter writes a table.
type TableWriter struct {
	zstd *zstd.Encoder
	buf  *bufio.Writer
	line []byte
}

// NewTableWriter returns a writer of a table to w. The caller must close it.
func NewTableWriter(w io.Writer) (*TableWriter, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(tableWindow), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &TableWriter{zstd: z, buf: bufio.NewWriterSize(z, 32<<10)}, nil
}

// Add writes the line of one file.
func (t *TableWriter) Add(s Sum) error {
	b := strconv.AppendUint(t.line[:0], uint64(s.Mode), 8)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(s.UID), 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, int64(s.GID), 10)
	b = append(b, ' ')
	if s.Digest == "" {
		b = append(b, '-')
	}
	b = append(b, s.Digest...)
	b = append(b, ' ')
	b = strconv.AppendQuote(b, s.Name)
	t.line = append(b, '\n')
	_, err := t.buf.Write(t.line)
	return err
}

// Close ends the table, but does not close what it was written to.
func (t *TableWriter) Close() error {
	err := t.buf.Flush()
	return errors.Join(err, t.zstd.Close())
}

// ReadTable returns the sums of the table r. After an error there are no more.
func ReadTable(r io.Reader) iter.Seq2[Sum, error] {
	return func(yield func(Sum, error) bool) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(tableWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			yield(Sum{}, fmt.Errorf("read table: %w", err))
			return
		}
		defer z.Close()
		lines := bufio.NewReaderSize(z, maxTableLine)
		for {
			line, err := lines.ReadSlice('\n')
			if err == io.EOF && len(line) == 0 {
				return
			}
			var s Sum
			switch err {
			case nil:
				s, err = parseSum(strings.TrimSuffix(string(line), "\n"))
			case io.EOF:
				err = io.ErrUnexpectedEOF
			case bufio.ErrBufferFull:
				err = fmt.Errorf("a line of more than %d bytes", maxTableLine)
			}
			if err != nil {
				yield(Sum{}, fmt.Errorf("read table: %w", err))
				return
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

func parseSum(line string) (s Sum, err error) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) != 4 {
		return Sum{}, fmt.Errorf("%q is not a mode, an owner, a digest and a name", line)
	}
	mode, err := strconv.ParseUint(fields[0], 8, 32)
	if err != nil {
		return Sum{}, err
	}
	uid, gid, _ := strings.Cut(fields[1], ":")
	s.Mode = uint32(mode)
	if s.UID, err = strconv.Atoi(uid); err != nil {
		return Sum{}, err
	}
	if s.GID, err = strconv.Atoi(gid); err != nil {
		return Sum{}, err
	}
	if fields[2] != "-" {
		if s.Digest, err = digest.Parse(fields[2]); err != nil {
			return Sum{}, err
		}
	}
	if s.Name, err = strconv.Unquote(fields[3]); err != nil {
		return Sum{}, fmt.Errorf("name %s: %w", fields[3], err)
	}
	return s, nil
}
