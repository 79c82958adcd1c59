package local

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/mounts"
	"lamina/solver"
)

// meter shows how much of a cache mount has come.
type meter struct {
	item        string
	done, total int64
	out         solver.Output
}

func newMeter(o mounts.Offer, item string, out solver.Output) *meter {
	m := &meter{item: item, out: out}
	for _, d := range o.Version.Blobs() {
		m.total += d.Size
	}
	return m
}

// shown is blobs of which one after the other is read, and a meter of that.
type shown struct {
	cache.Blobs
	*meter
}

func (s shown) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	return &metered{r, s.meter}, nil
}

type metered struct {
	io.ReadCloser
	*meter
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	if m.done += int64(n); n > 0 {
		m.out.Progress(m.item, m.done, m.total)
	}
	return n, err
}
