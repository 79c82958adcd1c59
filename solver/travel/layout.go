package travel

import (
	"context"
	"errors"
	"io/fs"

	"lamina/cache"
	"lamina/exporter/archive"
)

// ReadLayout reads the cache that a tag or digest stands for in the OCI layout dir;
// see [Read].
func ReadLayout(ctx context.Context, dir, name string) (*Cache, error) {
	l, err := archive.OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return Read(ctx, l, name)
}

// WriteLayout adds own to the cache that a tag stands for in the OCI layout dir,
// which is made if it is not there; see [Write]. What only the cache before needed
// is removed, so that the directory does not grow for ever. Writers wait for each
// other.
func WriteLayout(ctx context.Context, dir, tag string, src cache.Blobs, own *Cache, opt Options) (r Report, err error) {
	l, err := archive.MakeLayout(dir)
	if err != nil {
		return r, err
	}
	defer l.Close()
	unlock, err := l.Lock(ctx)
	if err != nil {
		return r, err
	}
	defer unlock()
	opt.Alone = true
	if r, err = Write(ctx, l, tag, src, own, opt); err != nil || !r.Written || r.Old.Digest == "" {
		return r, err
	}
	if err := l.Remove(ctx, r.Old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	return r, nil
}
