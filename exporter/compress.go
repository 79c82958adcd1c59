package exporter

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression names a way to compress layers.
type Compression string

// The compressions.
const (
	Gzip         Compression = "gzip"
	Zstd         Compression = "zstd"
	Uncompressed Compression = "uncompressed"
)

// What decides about the compressed bytes, beside the libraries' versions. These
// are part of every image's digest: a change makes all layers new.
const (
	gzipLevel = 5
	gzipBlock = 1 << 20
	zstdLevel = 3
)

// pipeBuffer gathers the small writes of an archive that is not compressed.
const pipeBuffer = 256 << 10

// encoder is one way to compress a layer, down to the bytes: those never depend
// on the number of cores.
type encoder struct {
	compression Compression
	level       int
	// idle are gzip writers between two layers: each has megabytes of buffers,
	// which cost more to make than a small layer to compress.
	idle *sync.Pool
}

func newEncoder(c Compression, level *int) (encoder, error) {
	if c == "" {
		c = Gzip
	}
	if err := c.Check(level); err != nil {
		return encoder{}, err
	}
	e := encoder{compression: c, idle: &sync.Pool{}}
	switch {
	case level != nil:
		e.level = *level
	case c == Gzip:
		e.level = gzipLevel
	case c == Zstd:
		e.level = zstdLevel
	}
	return e, nil
}

// Check tells what is wrong with a compression and its level, if it has one.
func (c Compression) Check(level *int) error {
	most := 0
	switch c {
	case Gzip, "":
		most = 9
	case Zstd:
		most = 22
	case Uncompressed:
		if level != nil {
			return errors.New("what is not compressed has no compression level")
		}
	case "estargz":
		return errors.New("compression estargz is not supported: gzip and zstd are what every registry and engine reads")
	default:
		return fmt.Errorf("unknown compression %q: use gzip, zstd or uncompressed", string(c))
	}
	if level != nil && (*level < 0 || *level > most) {
		return fmt.Errorf("compression level %d of %s is not from 0 to %d", *level, cmp.Or(c, Gzip), most)
	}
	return nil
}

// form names the result for the memo of [layer.Info].
func (e encoder) form(epoch *time.Time, all bool) string {
	form := string(e.compression)
	if e.compression != Uncompressed {
		form = fmt.Sprintf("%s-%d", e.compression, e.level)
	}
	switch {
	case epoch == nil:
		return form
	case all:
		return fmt.Sprintf("%s=%d", form, epoch.Unix())
	}
	return fmt.Sprintf("%s@%d", form, epoch.Unix())
}

// ParseForm returns the options that make the form of a layer by which
// [layer.Info] remembers it.
func ParseForm(form string) (PackOptions, error) {
	var opt PackOptions
	name := form
	if i := strings.IndexAny(form, "@="); i >= 0 {
		seconds, err := strconv.ParseInt(form[i+1:], 10, 64)
		if err != nil {
			return opt, fmt.Errorf("form %q: %w", form, err)
		}
		epoch := time.Unix(seconds, 0).UTC()
		name, opt.Epoch, opt.AllTimes = form[:i], &epoch, form[i] == '='
	}
	name, level, ok := strings.Cut(name, "-")
	if opt.Compression = Compression(name); ok {
		n, err := strconv.Atoi(level)
		if err != nil {
			return opt, fmt.Errorf("form %q: %w", form, err)
		}
		opt.Level = &n
	}
	enc, err := newEncoder(opt.Compression, opt.Level)
	if err == nil && enc.form(opt.Epoch, opt.AllTimes) != form {
		err = errors.New("it is not made any more")
	}
	if err != nil {
		return opt, fmt.Errorf("form %q: %w", form, err)
	}
	return opt, nil
}

func (e encoder) mediaType() string {
	switch e.compression {
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case Uncompressed:
		return ocispec.MediaTypeImageLayer
	default:
		return ocispec.MediaTypeImageLayerGzip
	}
}

// made tells whether a layer of this media type is compressed in this way, at
// whatever level.
func (e encoder) made(mediaType string) bool {
	_, compression, ok := splitLayerType(mediaType)
	return ok && strings.HasSuffix(e.mediaType(), "tar"+suffix(compression))
}

func suffix(compression string) string {
	if compression == "" {
		return ""
	}
	return "+" + compression
}

// writer compresses to w. The caller must close it, also after an error: only
// then have its goroutines ended.
func (e encoder) writer(w io.Writer) (io.WriteCloser, error) {
	switch e.compression {
	case Zstd:
		// Two goroutines, one that compresses and one that writes; a fixed number
		// keeps the memory the same everywhere.
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(e.level)), zstd.WithEncoderConcurrency(2))
	case Uncompressed:
		return bufferedWriter{bufio.NewWriterSize(w, pipeBuffer)}, nil
	}
	z, err := e.gzip(w)
	if err != nil {
		return nil, err
	}
	if err := z.SetConcurrency(gzipBlock, runtime.GOMAXPROCS(0)); err != nil {
		return nil, err
	}
	// The library would write its zero time as a number: the header's "no time" is 1970.
	z.ModTime = time.Unix(0, 0)
	return &gzipWriter{z, e.idle}, nil
}

// gzip returns a writer that is idle, or else a new one.
func (e encoder) gzip(w io.Writer) (*pgzip.Writer, error) {
	if z, ok := e.idle.Get().(*pgzip.Writer); ok {
		z.Reset(w)
		return z, nil
	}
	return pgzip.NewWriterLevel(w, e.level)
}

// gzipWriter closes pgzip's writer so that its goroutines end even after an error.
type gzipWriter struct {
	*pgzip.Writer
	idle *sync.Pool
}

func (g *gzipWriter) Close() error {
	z := g.Writer
	if z == nil {
		return nil // closed before: the writer is another layer's by now
	}
	g.Writer = nil
	if err := z.Close(); err != nil {
		// After an error Close leaves the goroutine behind that collects blocks.
		z.Reset(io.Discard)
		return err
	}
	g.idle.Put(z)
	return nil
}

type bufferedWriter struct{ *bufio.Writer }

func (b bufferedWriter) Close() error { return b.Flush() }
