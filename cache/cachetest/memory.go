// Package cachetest holds what tests of repositories and indexes share: both in
// memory, images made up of random bytes, and the conformance suites that every
// implementation must pass:
//
//	func TestConformance(t *testing.T) {
//		cachetest.RunRepository(t, func() cache.Repository { return open(t) })
//	}
package cachetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Memory is a [cache.Repository] and a [cache.Ingester] in memory.
type Memory struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	names map[string]ocispec.Descriptor
}

// NewMemory returns an empty repository.
func NewMemory() *Memory {
	return &Memory{blobs: map[digest.Digest][]byte{}, names: map[string]ocispec.Descriptor{}}
}

// Has tells whether the blob is here; see [cache.Blobs].
func (m *Memory) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[d.Digest]
	return ok && int64(len(data)) == d.Size, nil
}

// Open returns the blob's bytes; see [cache.Blobs].
func (m *Memory) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w", d.Digest, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, fs.ErrNotExist)
	}
	return cache.Verify(io.NopCloser(bytes.NewReader(data)), d), nil
}

// Put stores the bytes of r; see [cache.Blobs].
func (m *Memory) Put(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w", d.Digest, err)
	}
	data, err := io.ReadAll(cache.Verify(io.NopCloser(r), d))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("store blob %s: %w", d.Digest, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = data
	return nil
}

// Ingest stores all of r; see [cache.Ingester].
func (m *Memory) Ingest(ctx context.Context, mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	data, err := io.ReadAll(r)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("store blob: %w", err)
	}
	d := Describe(mediaType, data)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = data
	return d, nil
}

// Resolve returns what name stands for; see [cache.Repository].
func (m *Memory) Resolve(_ context.Context, name string) (ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.names[name]
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", name, fs.ErrNotExist)
	}
	return d, nil
}

// Tag makes name stand for root; see [cache.Repository].
func (m *Memory) Tag(_ context.Context, name string, root ocispec.Descriptor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blobs[root.Digest]; !ok {
		return fmt.Errorf("tag %s: blob %s: %w", name, root.Digest, fs.ErrNotExist)
	}
	m.names[name] = root
	return nil
}

// Digests lists what is stored, sorted.
func (m *Memory) Digests() []digest.Digest {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []digest.Digest
	for d := range m.blobs {
		all = append(all, d)
	}
	slices.Sort(all)
	return all
}

// Remove makes a blob disappear, as a trimmed store does.
func (m *Memory) Remove(d digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, d)
}

// Index is a [cache.Index] in memory.
type Index struct {
	mu      sync.Mutex
	records map[cache.Key][]byte
}

// NewIndex returns an empty index.
func NewIndex() *Index { return &Index{records: map[cache.Key][]byte{}} }

// Get returns the record of k; see [cache.Index].
func (x *Index) Get(_ context.Context, k cache.Key) ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	record, ok := x.records[k]
	if !ok {
		return nil, fmt.Errorf("record %s: %w", k, fs.ErrNotExist)
	}
	return bytes.Clone(record), nil
}

// Put stores the record of k; see [cache.Index].
func (x *Index) Put(_ context.Context, k cache.Key, record []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.records[k] = bytes.Clone(record)
	return nil
}
