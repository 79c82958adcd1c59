package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Lazy is the store's blobs together with those that the store knows to be
// elsewhere: what is not here is fetched, and kept, when somebody reads it.
type Lazy struct {
	Store *Store
	// Remote returns the blobs of a repository ("registry/path").
	Remote func(repository string) (Blobs, error)
}

// Has tells whether the blob is here or is known to be somewhere.
func (l *Lazy) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	ok, err := l.Store.Has(ctx, d)
	if err != nil || ok {
		return ok, err
	}
	return len(l.Store.Origins(d.Digest)) > 0, nil
}

// Put stores a blob here.
func (l *Lazy) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	return l.Store.Put(ctx, d, r)
}

// Ingest stores a blob here.
func (l *Lazy) Ingest(ctx context.Context, mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	return l.Store.Ingest(ctx, mediaType, r)
}

// Open returns the blob from the store, or from elsewhere; then it is stored
// while it is being read, and is in the store once it was read to its end.
// Two who need the same blob fetch it once: the second waits.
func (l *Lazy) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if ok, err := l.Store.Has(ctx, d); err != nil {
		return nil, err
	} else if ok {
		return l.Store.Open(ctx, d)
	}
	unlock, err := l.Store.Lock(ctx, "blob "+d.Digest.String())
	if err != nil {
		return nil, err
	}
	if ok, err := l.Store.Has(ctx, d); err != nil || ok {
		unlock()
		if err != nil {
			return nil, err
		}
		return l.Store.Open(ctx, d)
	}
	remote, err := l.open(ctx, d)
	if err != nil {
		unlock()
		return nil, err
	}
	return newKeeping(ctx, l.Store, d, remote, unlock), nil
}

// LostError reports a blob that was known to be elsewhere, and is not any more. It
// is an fs.ErrNotExist.
type LostError struct {
	Blob ocispec.Descriptor
	Err  error
}

func (e *LostError) Error() string { return fmt.Sprintf("blob %s: %v", e.Blob.Digest, e.Err) }

// Unwrap returns what the places said.
func (e *LostError) Unwrap() error { return e.Err }

// open tries the places that are known to have the blob. If none has it, they are
// forgotten: what relied on them is made anew by the next build.
func (l *Lazy) open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	var errs []error
	lost := true
	for _, repository := range l.Store.Origins(d.Digest) {
		remote, err := l.Remote(repository)
		if err == nil {
			var r io.ReadCloser
			if r, err = remote.Open(ctx, d); err == nil {
				return r, nil
			}
		}
		errs = append(errs, err)
		lost = lost && errors.Is(err, fs.ErrNotExist)
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case len(errs) == 0:
		errs = append(errs, fs.ErrNotExist)
	case lost && ctx.Err() == nil:
		return nil, &LostError{d, errors.Join(append(errs, l.Store.DropOrigins(d.Digest))...)}
	}
	return nil, fmt.Errorf("blob %s: %w", d.Digest, errors.Join(errs...))
}

// keeping is a remote blob that is stored while it is read.
type keeping struct {
	remote io.ReadCloser
	pipe   *io.PipeWriter
	stored chan error
	close  func() error
}

func newKeeping(ctx context.Context, s *Store, d ocispec.Descriptor, remote io.ReadCloser, unlock func()) *keeping {
	r, w := io.Pipe()
	k := &keeping{remote: remote, pipe: w, stored: make(chan error, 1)}
	go func() {
		err := s.Put(ctx, d, r)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // somebody else stored it meanwhile
		}
		r.CloseWithError(err) // a full disk must not stop the reader for ever
		k.stored <- err
	}()
	k.close = sync.OnceValue(func() error {
		w.CloseWithError(io.ErrUnexpectedEOF) // a no-op after the end
		<-k.stored
		defer unlock()
		return remote.Close()
	})
	return k
}

func (k *keeping) Read(p []byte) (int, error) {
	n, err := k.remote.Read(p)
	if n > 0 {
		if _, werr := k.pipe.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	if err == io.EOF {
		k.pipe.Close()
		serr := <-k.stored
		k.stored <- serr // for Close, and for who reads on at the end
		if serr != nil {
			return n, serr
		}
	}
	return n, err
}

// Close ends the transfer; what was not read to its end is not kept.
func (k *keeping) Close() error { return k.close() }

// Origins returns the repositories that are known to hold d.
func (l *Lazy) Origins(d digest.Digest) []string { return l.Store.Origins(d) }
