package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/exporter"
)

// Layout is an OCI layout in a directory, to read from and to write to. The names
// that Resolve and Tag take are tags ([ocispec.AnnotationRefName]). It is safe for
// concurrent use, by processes too.
type Layout struct {
	layout
	dir string
}

var _ cache.Repository = (*Layout)(nil)

// OpenLayout opens the layout in dir. One that is not there is fs.ErrNotExist. The
// caller must close it.
func OpenLayout(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open layout: %w", err)
	}
	l := &Layout{layout{root}, dir}
	if _, err := root.Stat(ocispec.ImageLayoutFile); err != nil {
		root.Close()
		return nil, fmt.Errorf("open layout %s: %w", dir, err)
	}
	return l, nil
}

// MakeLayout opens the layout in dir, and makes it if it is not there.
func MakeLayout(dir string) (*Layout, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make layout: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("make layout: %w", err)
	}
	l := &Layout{layout{root}, dir}
	if err := l.init(); err != nil {
		root.Close()
		return nil, fmt.Errorf("make layout %s: %w", dir, err)
	}
	return l, nil
}

// Close closes the directory.
func (l *Layout) Close() error { return l.root.Close() }

// Resolve returns the root that a tag, or a digest, stands for; see [cache.Repository].
func (l *Layout) Resolve(_ context.Context, name string) (ocispec.Descriptor, error) {
	index, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == name || d.Digest.String() == name {
			d.Annotations = nil
			return d, nil
		}
	}
	if d := digest.Digest(name); d.Validate() == nil {
		return l.document(d)
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s in layout %s: %w", name, l.dir, fs.ErrNotExist)
}

// document describes a document that the index does not name.
func (l *Layout) document(d digest.Digest) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{Digest: d}
	data, err := readFile(l.root.FS(), blobPath(desc))
	if err != nil {
		return desc, fmt.Errorf("%s in layout %s: %w", d, l.dir, err)
	}
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(data, &doc); err != nil || doc.MediaType == "" {
		return desc, fmt.Errorf("%s in layout %s is not the manifest of an image or a cache", d, l.dir)
	}
	desc.MediaType, desc.Size = doc.MediaType, int64(len(data))
	return desc, nil
}

// Tag makes a tag stand for root; see [cache.Repository].
func (l *Layout) Tag(ctx context.Context, name string, root ocispec.Descriptor) error {
	if ok, err := l.Has(ctx, root); err != nil || !ok {
		return fmt.Errorf("tag %s in layout %s: %w", name, l.dir, cmp.Or(err, fs.ErrNotExist))
	}
	root.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	if err := l.setIndex([]ocispec.Descriptor{root}); err != nil {
		return fmt.Errorf("write layout %s: %w", l.dir, err)
	}
	return nil
}

// Remove removes what old refers to, and nothing that the layout names does. It is
// for those who hold the lock, so that nobody is about to refer to it.
func (l *Layout) Remove(ctx context.Context, old ocispec.Descriptor) error {
	index, err := l.index()
	if err != nil {
		return err
	}
	keep := map[digest.Digest]bool{}
	for _, root := range index.Manifests {
		err := exporter.Walk(ctx, l, root, func(d ocispec.Descriptor) error {
			keep[d.Digest] = true
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var gone []ocispec.Descriptor
	err = exporter.Walk(ctx, l, old, func(d ocispec.Descriptor) error {
		if !keep[d.Digest] {
			gone = append(gone, d)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range gone {
		if err := l.root.Remove(blobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Lock waits until nobody else holds the directory's lock, and takes it. It keeps
// away only those who take it, too.
func (l *Layout) Lock(ctx context.Context) (unlock func(), err error) {
	dir, err := l.root.Open(".")
	if err != nil {
		return nil, err
	}
	for nap := time.Millisecond; ; nap = min(2*nap, 100*time.Millisecond) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { dir.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			dir.Close()
			return nil, fmt.Errorf("lock layout %s: %w", l.dir, err)
		}
		select {
		case <-ctx.Done():
			dir.Close()
			return nil, context.Cause(ctx)
		case <-time.After(nap):
		}
	}
}

// index reads index.json; if there is none, it is empty.
func (l layout) index() (ocispec.Index, error) {
	var index ocispec.Index
	err := readJSON(l.root.FS(), ocispec.ImageIndexFile, &index)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return index, fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	return index, nil
}

// setIndex adds entries to index.json, under a lock that is held against other
// writers.
func (l layout) setIndex(entries []ocispec.Descriptor) error {
	lock, err := l.root.Open(ocispec.ImageLayoutFile)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock layout: %w", err)
	}
	index, err := l.index()
	if err != nil {
		return err
	}
	all := index.Manifests
	for _, entry := range entries {
		all = slices.DeleteFunc(all, func(d ocispec.Descriptor) bool { return replaces(entry, d) })
		all = append(all, entry)
	}
	data, err := indexJSON(all)
	if err != nil {
		return err
	}
	return l.replace(ocispec.ImageIndexFile, data)
}
