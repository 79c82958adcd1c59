package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/exporter"
)

// Write writes images, with everything they refer to, to w as a tar. It streams:
// no blob is held in memory, and w need not be a file. Equal images give equal
// bytes.
func Write(ctx context.Context, w io.Writer, src cache.Blobs, images []Image, opt Options) error {
	blobs, err := collect(ctx, src, images)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	var entries []ocispec.Descriptor
	for _, img := range images {
		entries = append(entries, img.entries()...)
	}
	index, err := indexJSON(entries)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	t := &tarWriter{w: tar.NewWriter(w), progress: opt.Progress}
	t.file(ocispec.ImageLayoutFile, layoutJSON())
	t.file(ocispec.ImageIndexFile, index)
	if opt.Docker {
		manifest, err := dockerJSON(ctx, src, images, opt.Platform)
		if err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		t.file(manifestFile, manifest)
	}
	t.blobs(ctx, src, blobs)
	if t.err == nil {
		t.err = t.w.Close()
	}
	if t.err != nil {
		return fmt.Errorf("write archive: %w", t.err)
	}
	return nil
}

// collect lists what the images consist of, each blob once. Layers that their
// image keeps elsewhere, by URL, are left there if they are not here.
func collect(ctx context.Context, src cache.Blobs, images []Image) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, img := range images {
		err := exporter.Walk(ctx, src, img.Root, func(d ocispec.Descriptor) error {
			if seen[d.Digest] {
				return nil
			}
			seen[d.Digest] = true
			if err := d.Digest.Validate(); err != nil {
				return fmt.Errorf("blob %q: %w", d.Digest, err)
			}
			if len(d.URLs) > 0 {
				if ok, err := src.Has(ctx, d); err != nil || !ok {
					return err
				}
			}
			blobs = append(blobs, d)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return blobs, nil
}

// dockerJSON writes manifest.json, one element for each image, with all its names.
func dockerJSON(ctx context.Context, src cache.Blobs, images []Image, p ocispec.Platform) ([]byte, error) {
	list := []*dockerImage{}
	known := map[digest.Digest]*dockerImage{}
	for _, img := range images {
		read, err := exporter.ReadImage(ctx, src, img.Root, p)
		if err != nil {
			return nil, err
		}
		entry := known[read.Manifest.Digest]
		if entry == nil {
			entry = &dockerImage{Config: blobPath(read.ConfigDesc), Layers: []string{}}
			for _, l := range read.Layers {
				entry.Layers = append(entry.Layers, blobPath(*l.Blob))
			}
			known[read.Manifest.Digest] = entry
			list = append(list, entry)
		}
		for _, name := range img.Names {
			if !strings.Contains(name, "@") { // a digest is no tag
				entry.RepoTags = append(entry.RepoTags, familiar(name))
			}
		}
	}
	return json.Marshal(list)
}

// tarWriter writes an archive's files. It does nothing more after the first error.
type tarWriter struct {
	w        *tar.Writer
	progress cache.Progress
	err      error
}

// header starts a file or, by a name that ends in a slash, a directory.
func (t *tarWriter) header(name string, size int64) {
	if t.err != nil {
		return
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if strings.HasSuffix(name, "/") {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	}
	if size >= 8<<30 {
		h.Format = tar.FormatPAX // USTAR's size field ends here
	}
	t.err = t.w.WriteHeader(h)
}

func (t *tarWriter) file(name string, data []byte) {
	t.header(name, int64(len(data)))
	if t.err == nil {
		_, t.err = t.w.Write(data)
	}
}

func (t *tarWriter) blobs(ctx context.Context, src cache.Blobs, blobs []ocispec.Descriptor) {
	made := map[digest.Algorithm]bool{}
	t.header(ocispec.ImageBlobsDir+"/", 0)
	for _, d := range blobs {
		if algorithm := d.Digest.Algorithm(); !made[algorithm] {
			made[algorithm] = true
			t.header(ocispec.ImageBlobsDir+"/"+algorithm.String()+"/", 0)
		}
		if t.err == nil {
			t.err = ctx.Err()
		}
		t.blob(ctx, src, d)
	}
}

func (t *tarWriter) blob(ctx context.Context, src cache.Blobs, d ocispec.Descriptor) {
	if t.err != nil {
		return
	}
	r, err := src.Open(ctx, d)
	if err != nil {
		t.err = err
		return
	}
	defer r.Close()
	t.header(blobPath(d), d.Size)
	if t.err != nil {
		return
	}
	w := &progressWriter{ctx: ctx, w: t.w, desc: d, progress: t.progress}
	_, t.err = io.Copy(w, r)
}

// progressWriter passes a blob on, says how far it has come, and stops when it
// is told to.
type progressWriter struct {
	ctx      context.Context
	w        io.Writer
	desc     ocispec.Descriptor
	progress cache.Progress
	n        int64
}

func (p *progressWriter) Write(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.w.Write(b)
	p.n += int64(n)
	if p.progress != nil {
		p.progress(p.desc, p.n)
	}
	return n, err
}
