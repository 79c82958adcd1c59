package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/exporter"
)

// maxDocument bounds the files that are read into memory, in bytes.
const maxDocument = 16 << 20

// Archive is an archive or a layout directory to read images from. It is a
// [cache.Repository] to which nothing can be added, and safe for concurrent use.
type Archive struct {
	fsys   fs.FS
	close  func() error
	images []Image
	refs   map[string]ocispec.Descriptor // by every name and tag
	made   map[digest.Digest][]byte      // documents that the archive implies
	paths  map[digest.Digest]string      // blobs that lie elsewhere than in a layout
}

var _ cache.Repository = (*Archive)(nil)

// Open opens the archive or layout directory name, whichever of the forms of this
// package it has; an archive may be compressed. Only then is a temporary file
// made in the directory tmp. The caller must close the archive.
func Open(name, tmp string) (*Archive, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		return newArchive(name, root.FS(), root.Close)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || isCompressed(f) {
		defer f.Close()
		return read(name, f, tmp)
	}
	return newTarArchive(name, f)
}

// Read reads an archive from a stream, which it keeps in a temporary file in the
// directory tmp until the archive is closed. It reads r to its end.
func Read(r io.Reader, tmp string) (*Archive, error) {
	return read("the archive", r, tmp)
}

func newTarArchive(name string, f *os.File) (*Archive, error) {
	fsys, err := indexTar(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return newArchive(name, fsys, f.Close)
}

func newArchive(name string, fsys fs.FS, closer func() error) (*Archive, error) {
	a := &Archive{
		fsys:  fsys,
		close: closer,
		refs:  map[string]ocispec.Descriptor{},
		made:  map[digest.Digest][]byte{},
		paths: map[digest.Digest]string{},
	}
	err := a.readIndex()
	if errors.Is(err, fs.ErrNotExist) {
		err = a.readDocker()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("it is no archive of images: it has neither %s nor %s", ocispec.ImageIndexFile, manifestFile)
	}
	if err != nil {
		closer()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return a, nil
}

// readIndex reads an OCI layout.
func (a *Archive) readIndex() error {
	if _, err := fs.Stat(a.fsys, ocispec.ImageLayoutFile); err != nil {
		return err
	}
	var index ocispec.Index
	if err := readJSON(a.fsys, ocispec.ImageIndexFile, &index); err != nil {
		return err
	}
	for _, d := range index.Manifests {
		name, ref := d.Annotations[annotationName], d.Annotations[ocispec.AnnotationRefName]
		d.Annotations = nil
		if name == "" && strings.ContainsAny(ref, ":/") {
			name = ref // podman and skopeo put the whole name there
		}
		a.add(d, name, ref)
	}
	return nil
}

// add takes note of an image; name is complete, ref is anything to find it by.
func (a *Archive) add(root ocispec.Descriptor, name, ref string) {
	i := slices.IndexFunc(a.images, func(img Image) bool { return img.Root.Digest == root.Digest })
	if i < 0 {
		i = len(a.images)
		a.images = append(a.images, Image{Root: root})
	}
	if name != "" {
		a.images[i].Names = append(a.images[i].Names, name)
	}
	for _, n := range []string{name, familiar(name), ref} {
		if _, taken := a.refs[n]; n != "" && !taken {
			a.refs[n] = root
		}
	}
}

// Images lists what the archive holds, in its order.
func (a *Archive) Images() []Image { return a.images }

// Close closes the archive's file.
func (a *Archive) Close() error { return a.close() }

// Resolve finds an image by its name, its tag, or its digest; an empty name is
// the only image that there is. An unknown name is fs.ErrNotExist.
func (a *Archive) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	if d, ok := a.refs[name]; ok {
		return d, nil
	}
	if name == "" && len(a.images) == 1 {
		return a.images[0].Root, nil
	}
	if d, err := digest.Parse(name); err == nil {
		return a.resolveDigest(ctx, d)
	}
	var known []string
	for _, img := range a.images {
		known = append(known, img.Names...)
	}
	if len(known) == 0 {
		known = []string{"images without a name"}
	}
	return ocispec.Descriptor{}, fmt.Errorf("image %q: %w in the archive, which has %s", name, fs.ErrNotExist, strings.Join(known, ", "))
}

// resolveDigest finds a document anywhere beneath the images.
func (a *Archive) resolveDigest(ctx context.Context, want digest.Digest) (found ocispec.Descriptor, err error) {
	errFound := errors.New("found")
	for _, img := range a.images {
		err := exporter.Walk(ctx, a, img.Root, func(d ocispec.Descriptor) error {
			if d.Digest == want && (exporter.IsManifest(d.MediaType) || exporter.IsIndex(d.MediaType)) {
				found = d
				return errFound
			}
			return nil
		})
		if errors.Is(err, errFound) {
			return found, nil
		}
		// An archive need not hold every platform of an index that it names.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
	}
	return found, fmt.Errorf("image %s: %w", want, fs.ErrNotExist)
}

// Has tells whether the blob is here; see [cache.Blobs].
func (a *Archive) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	if err := d.Digest.Validate(); err != nil {
		return false, fmt.Errorf("blob %q: %w", d.Digest, err)
	}
	if data, ok := a.made[d.Digest]; ok {
		return int64(len(data)) == d.Size, nil
	}
	st, err := fs.Stat(a.fsys, a.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Size() == d.Size, err
}

// Open returns the blob's bytes; see [cache.Blobs].
func (a *Archive) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if data, ok := a.made[d.Digest]; ok {
		return cache.Verify(newBytes(data), d), nil
	}
	return openBlob(a.fsys, d, a.path)
}

// Put fails: nothing can be added to an archive.
func (a *Archive) Put(context.Context, ocispec.Descriptor, io.Reader) error {
	return fmt.Errorf("put a blob into an archive: %w", errors.ErrUnsupported)
}

// Tag fails: nothing can be added to an archive.
func (a *Archive) Tag(context.Context, string, ocispec.Descriptor) error {
	return fmt.Errorf("tag an image in an archive: %w", errors.ErrUnsupported)
}

func (a *Archive) path(d ocispec.Descriptor) string {
	if p, ok := a.paths[d.Digest]; ok {
		return p
	}
	return blobPath(d)
}

// openBlob opens a file that holds d, and verifies it.
func openBlob(fsys fs.FS, d ocispec.Descriptor, path func(ocispec.Descriptor) string) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w", d.Digest, err)
	}
	f, err := fsys.Open(path(d))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return cache.Verify(f, d), nil
}

func readJSON(fsys fs.FS, name string, v any) error {
	data, err := readFile(fsys, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s: more than %d bytes", name, maxDocument)
	}
	return data, err
}

func newBytes(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
