package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Store is this machine's store: plain files below one directory, shared by any
// number of processes at once.
//
//	oci-layout index.json blobs/sha256/   an OCI image layout, with every name and blob
//	index.copy                            index.json once more, with a checksum
//	index/ab/abcd…                        records, by key; see [Store.Index]
//	origins/abcd…                         repositories that are known to hold a blob
//	layers/ mounts/ containers/           of package layer, of cache mounts, of runner/container
//	builds/                               of package builds
//	locks/                                a lock file for each key that is being worked on
//	tmp/<process>/                        half-made work, swept once its process is dead
//
// Everything is published by renaming a finished file or directory out of tmp,
// so that whoever is killed leaves nothing half-made in sight. Nothing is synced
// on the way: what a power failure can tear is checked when it is read (blobs
// and records carry digests, layers the boot they were made in), and naming a
// root syncs the filesystem once.
type Store struct {
	root string
	temp tempDir
	used sync.Once
	use  func() // releases the shared lock
}

const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
)

// Open opens the store below root and makes it if there is none, or what somebody
// removed of it. It costs a few system calls: work that only some commands need is
// done when they need it.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root}
	for _, dir := range []string{"blobs/sha256", "index", "origins", "layers", "mounts", "containers", "locks", "tmp"} {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("make store: %w", err)
		}
	}
	if _, err := os.Stat(s.Path(layoutFile)); err == nil {
		return s, nil
	}
	if err := s.WriteLayout(); err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	return s, nil
}

// Path joins elem to the store's directory.
func (s *Store) Path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// Close releases what the store holds for this process: its temporary
// directory, and its claim that the store is in use.
func (s *Store) Close() error {
	err := s.temp.close()
	if s.use != nil {
		s.use()
		s.use = nil
	}
	return err
}

// writeFile replaces a file of the store atomically; durable adds that its
// content is on the disk before its name is.
func (s *Store) writeFile(name string, data []byte, durable bool) error {
	dir, err := s.Temp()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "file-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), s.Path(name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("blob %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("blob %s: only sha256 digests are supported", d)
	}
	return s.Path("blobs", "sha256", d.Encoded()), nil
}

// Has tells whether the blob is here, whole as far as its size tells.
func (s *Store) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	path, err := s.blobPath(d.Digest)
	if err != nil {
		return false, err
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.Size() == d.Size, nil
}

// Open returns the blob's bytes, verified; see [Blobs]. A blob that turns out
// to be damaged is removed, so that the next who needs it gets it anew.
func (s *Store) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	path, err := s.blobPath(d.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	v := Verify(f, d)
	v.corrupt = func() { os.Remove(path) }
	return v, nil
}

// Put stores a blob whose descriptor is known; see [Blobs].
func (s *Store) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	path, err := s.blobPath(d.Digest)
	if err != nil {
		return err
	}
	if ok, err := s.Has(ctx, d); err != nil || ok {
		return err
	}
	_, err = s.ingest(r, func(got digest.Digest, size int64) (string, error) {
		if got != d.Digest || size != d.Size {
			return "", &CorruptError{Want: d, Digest: got, Size: size}
		}
		return path, nil
	})
	if err != nil {
		return fmt.Errorf("store blob %s: %w", d.Digest, err)
	}
	return nil
}

// Ingest stores all of r; see [Ingester].
func (s *Store) Ingest(_ context.Context, mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType}
	_, err := s.ingest(r, func(got digest.Digest, size int64) (string, error) {
		d.Digest, d.Size = got, size
		return s.blobPath(got)
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("store blob: %w", err)
	}
	return d, nil
}

// ingest copies r to a temporary file and renames it to what place says.
func (s *Store) ingest(r io.Reader, place func(digest.Digest, int64) (string, error)) (int64, error) {
	dir, err := s.Temp()
	if err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(dir, "blob-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // a no-op once renamed
	h := digest.SHA256.Digester()
	n, err := io.Copy(io.MultiWriter(f, h.Hash()), r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return n, err
	}
	path, err := place(h.Digest(), n)
	if err != nil {
		return n, err
	}
	return n, os.Rename(f.Name(), path)
}
