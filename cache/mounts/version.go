package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Media types of what a cache mount travels as. A pack is an archive of contents as
// any other, so that registries need not know anything.
const (
	TreeType = "application/vnd.lamina.mount.tree.v1+zstd"
	PackType = ocispec.MediaTypeImageLayerZstd
)

// maxTreeBlob bounds a tree's blob, in bytes.
const maxTreeBlob = 64 << 20

// Version is a cache mount as it was at one time on one machine, as it travels.
type Version struct {
	Spec Spec `json:"spec"`
	// ID identifies the mount's whole content: names, attributes and bytes.
	ID   digest.Digest      `json:"id"`
	Tree ocispec.Descriptor `json:"tree"`
	// Packs have the contents of the files, each in exactly one of them.
	Packs []Pack `json:"packs,omitempty"`
	// Size is the number of bytes in Files files.
	Size  int64 `json:"size"`
	Files int   `json:"files"`
	// Packed is when this was sent, and Used when a build last mounted it.
	Packed time.Time `json:"packed"`
	Used   time.Time `json:"used"`
}

// Pack is an archive of contents.
type Pack struct {
	Blob ocispec.Descriptor `json:"blob"`
	// Plain is the number of bytes of the contents, before compression.
	Plain int64 `json:"plain"`
}

// Blobs are what the version consists of.
func (v *Version) Blobs() []ocispec.Descriptor {
	all := []ocispec.Descriptor{v.Tree}
	for _, p := range v.Packs {
		all = append(all, p.Blob)
	}
	return all
}

// Check tells what is wrong with a version that a stranger wrote. What its blobs are
// is seen when they are read.
func (v *Version) Check() error {
	if n := len(v.Spec.ID); n == 0 || n > maxPath || len(v.Spec.From) > maxPath || len(v.Spec.Source) > maxPath {
		return errors.New("no id, or too long a text")
	}
	if err := v.ID.Validate(); err != nil {
		return err
	}
	if len(v.Packs) > maxPacks {
		return fmt.Errorf("%d packs", len(v.Packs))
	}
	if v.Tree.MediaType != TreeType || v.Tree.Size > maxTreeBlob || v.Size < 0 || v.Size > maxFile || v.Files < 0 || v.Files > maxEntries {
		return errors.New("a list of files that is none")
	}
	for i, d := range v.Blobs() {
		if err := d.Digest.Validate(); err != nil {
			return err
		}
		if d.Digest.Algorithm() != digest.SHA256 || d.Size <= 0 || i > 0 && d.MediaType != PackType {
			return errors.New("a blob that is none of a cache mount")
		}
	}
	var plain int64
	for _, p := range v.Packs {
		if plain += p.Plain; p.Plain <= 0 || plain > 2*v.Size || plain < 0 {
			return errors.New("packs of more than the mount needs")
		}
	}
	if v.Packed.After(time.Now().Add(24 * time.Hour)) {
		return errors.New("made in the future")
	}
	return nil
}

// readTree fetches the version's tree, which must be what the version says of it.
func (v *Version) readTree(ctx context.Context, blobs cache.Blobs) (*Tree, error) {
	r, err := blobs.Open(ctx, v.Tree)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	t, err := decodeTree(r)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the end is where it is verified
		return nil, err
	}
	id, err := t.ID()
	if err != nil {
		return nil, err
	}
	size, files := t.Size()
	if id != v.ID || size != v.Size || files != v.Files {
		return nil, fmt.Errorf("%w: its list of files is another's", ErrDamaged)
	}
	for _, e := range t.Entries {
		if e.Kind == File && e.Size > 0 && e.Pack >= len(v.Packs) {
			return nil, fmt.Errorf("%w: there is no pack %d", ErrDamaged, e.Pack)
		}
	}
	return t, nil
}
