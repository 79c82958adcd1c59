package exporter

import (
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// source reads a blob that is being copied, and tells how far it has come. It can
// seek, but only to the beginning: an upload that broke starts again.
type source struct {
	desc     ocispec.Descriptor
	open     func() (io.ReadCloser, error)
	progress cache.Progress // or nil
	r        io.ReadCloser  // nil while nothing is open
	n        int64
}

var _ io.ReadSeekCloser = (*source)(nil)

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if n > 0 && s.progress != nil {
		s.progress(s.desc, s.n)
	}
	return n, err
}

func (s *source) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence == io.SeekEnd {
		return 0, fmt.Errorf("seek in %s: %w", s.desc.Digest, errors.ErrUnsupported)
	}
	if whence == io.SeekCurrent {
		return s.n, nil
	}
	if s.r != nil && s.n == 0 {
		return 0, nil
	}
	if err := s.Close(); err != nil {
		return 0, err
	}
	r, err := s.open()
	if err != nil {
		return 0, err
	}
	s.r, s.n = r, 0
	return 0, nil
}

// Close closes what is open. The source can be opened again by a Seek.
func (s *source) Close() error {
	if s.r == nil {
		return nil
	}
	r := s.r
	s.r = nil
	return r.Close()
}
