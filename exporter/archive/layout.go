package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/exporter"
)

// WriteLayout adds images to the OCI layout in the directory dir, which is made
// if it does not exist. What the layout has already is not written again; a name
// that it had is taken from what it stood for. Nothing is named before it is there
// as a whole, and writers may work at the same time.
func WriteLayout(ctx context.Context, dir string, src cache.Blobs, images []Image, opt exporter.CopyOptions) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	defer root.Close()
	l := layout{root}
	if err := l.init(); err != nil {
		return fmt.Errorf("write layout %s: %w", dir, err)
	}
	for _, img := range images {
		if err := exporter.Copy(ctx, l, src, img.Root, opt); err != nil {
			return fmt.Errorf("write layout %s: %w", dir, err)
		}
	}
	if err := l.name(images); err != nil {
		return fmt.Errorf("write layout %s: %w", dir, err)
	}
	return nil
}

// layout is the blobs of a layout directory.
type layout struct{ root *os.Root }

func (l layout) init() error {
	if err := l.root.MkdirAll(ocispec.ImageBlobsDir, 0o755); err != nil {
		return err
	}
	if _, err := l.root.Stat(ocispec.ImageLayoutFile); err == nil {
		return nil
	}
	return l.replace(ocispec.ImageLayoutFile, layoutJSON())
}

func (l layout) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	if err := d.Digest.Validate(); err != nil {
		return false, fmt.Errorf("blob %q: %w", d.Digest, err)
	}
	st, err := l.root.Stat(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Size() == d.Size, err
}

func (l layout) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return openBlob(l.root.FS(), d, blobPath)
}

func (l layout) Put(_ context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w", d.Digest, err)
	}
	name := blobPath(d)
	if err := l.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return l.write(name, cache.Verify(io.NopCloser(r), d))
}

func (l layout) replace(name string, data []byte) error {
	return l.write(name, newBytes(data))
}

// write makes the file name atomically: others see all of it or what was before.
func (l layout) write(name string, r io.Reader) error {
	tmp := path.Join(path.Dir(name), ".tmp-"+rand.Text())
	f, err := l.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = l.root.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, l.root.Remove(tmp))
	}
	return nil
}

// name adds images to index.json.
func (l layout) name(images []Image) error {
	var entries []ocispec.Descriptor
	for _, img := range images {
		entries = append(entries, img.entries()...)
	}
	return l.setIndex(entries)
}

// replaces tells whether an old entry of an index has to go when entry comes:
// because that takes its name, or is the same image without any.
func replaces(entry, old ocispec.Descriptor) bool {
	name, ref := old.Annotations[annotationName], old.Annotations[ocispec.AnnotationRefName]
	switch {
	case name != "":
		return name == entry.Annotations[annotationName]
	case ref != "":
		return ref == entry.Annotations[ocispec.AnnotationRefName]
	default:
		return old.Digest == entry.Digest
	}
}
