package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Named is a root of the store: an image or an index, and a name for it. A root
// with several names is several Named; Name is empty for one that has none.
type Named struct {
	Name string
	Root ocispec.Descriptor
}

// Names returns the roots in the order in which they were named, latest last.
func (s *Store) Names(_ context.Context) ([]Named, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	return named(idx), nil
}

func named(idx ocispec.Index) []Named {
	var all []Named
	for _, d := range idx.Manifests {
		all = append(all, Named{d.Annotations[ocispec.AnnotationRefName], bare(d)})
	}
	return all
}

// Resolve returns the root that name stands for; see [Repository].
func (s *Store) Resolve(_ context.Context, name string) (ocispec.Descriptor, error) {
	idx, err := s.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range idx.Manifests {
		if name != "" && d.Annotations[ocispec.AnnotationRefName] == name {
			return bare(d), nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", name, fs.ErrNotExist)
}

// Tag makes name stand for root; see [Repository]. The root that name stood for
// stays in the store, without a name if it had no other.
func (s *Store) Tag(ctx context.Context, name string, root ocispec.Descriptor) error {
	if name == "" {
		return errors.New("tag: the name is empty")
	}
	if err := s.rooted(ctx, root); err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return s.updateIndex(ctx, func(roots []Named) []Named {
		if slices.ContainsFunc(roots, func(n Named) bool { return n.Name == name && n.Root.Digest == root.Digest }) {
			return roots // a build that changed nothing writes nothing
		}
		var old ocispec.Descriptor
		roots = slices.DeleteFunc(roots, func(n Named) bool {
			if n.Name == name {
				old = n.Root
			}
			return n.Name == name || (n.Name == "" && n.Root.Digest == root.Digest)
		})
		if old.Digest != "" && old.Digest != root.Digest && !hasRoot(roots, old.Digest) {
			roots = append(roots, Named{Root: old})
		}
		return append(roots, Named{name, root})
	})
}

// Hold keeps root in the store without giving it a name.
func (s *Store) Hold(ctx context.Context, root ocispec.Descriptor) error {
	if err := s.rooted(ctx, root); err != nil {
		return fmt.Errorf("keep %s: %w", root.Digest, err)
	}
	return s.updateIndex(ctx, func(roots []Named) []Named {
		if hasRoot(roots, root.Digest) {
			return roots
		}
		return append(roots, Named{Root: root})
	})
}

// Untag removes name. What it stood for stays, without a name if that was its
// last. An unknown name is fs.ErrNotExist.
func (s *Store) Untag(ctx context.Context, name string) error {
	found := false
	err := s.updateIndex(ctx, func(roots []Named) []Named {
		var old ocispec.Descriptor
		roots = slices.DeleteFunc(roots, func(n Named) bool {
			if n.Name == name && name != "" {
				old, found = n.Root, true
			}
			return found && n.Name == name
		})
		if found && !hasRoot(roots, old.Digest) {
			roots = append(roots, Named{Root: old})
		}
		return roots
	})
	if err == nil && !found {
		err = fmt.Errorf("image %s: %w", name, fs.ErrNotExist)
	}
	return err
}

// Forget removes the root d under all its names. Its blobs stay until they are
// collected. An unknown root is fs.ErrNotExist.
func (s *Store) Forget(ctx context.Context, d digest.Digest) error {
	found := false
	err := s.updateIndex(ctx, func(roots []Named) []Named {
		return slices.DeleteFunc(roots, func(n Named) bool {
			found = found || n.Root.Digest == d
			return n.Root.Digest == d
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("image %s: %w", d, fs.ErrNotExist)
	}
	return err
}

// rooted checks that root is here.
func (s *Store) rooted(ctx context.Context, root ocispec.Descriptor) error {
	ok, err := s.Has(ctx, root)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("blob %s: %w", root.Digest, fs.ErrNotExist)
	}
	return nil
}

func hasRoot(roots []Named, d digest.Digest) bool {
	return slices.ContainsFunc(roots, func(n Named) bool { return n.Root.Digest == d })
}

// bare is d as it was before it got a name.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	d.Annotations = nil
	return d
}

func (s *Store) readIndex() (ocispec.Index, error) {
	idx, err := s.parseIndex()
	if err == nil {
		return idx, nil
	}
	var damaged *damagedIndexError
	if missing := errors.Is(err, fs.ErrNotExist); !missing && !errors.As(err, &damaged) {
		return idx, fmt.Errorf("read store: %w", err)
	} else if last, lerr := s.lastIndex(); lerr == nil {
		return last, nil
	} else if missing {
		return ocispec.Index{}, nil
	}
	return idx, fmt.Errorf("read store: %w", err)
}

// updateIndex changes the roots under a lock and publishes them, if they changed.
func (s *Store) updateIndex(ctx context.Context, change func([]Named) []Named) error {
	unlock, err := s.LockNames(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	before, err := s.Names(ctx)
	if err != nil {
		return err
	}
	after := change(slices.Clone(before))
	if slices.EqualFunc(before, after, sameNamed) {
		return nil
	}
	data, err := encodeIndex(after)
	if err != nil {
		return err
	}
	return s.writeIndex(data)
}

// encodeIndex is roots as index.json has them.
func encodeIndex(roots []Named) ([]byte, error) {
	idx := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{}, // never null
	}
	for _, n := range roots {
		d := bare(n.Root)
		if n.Name != "" {
			d.Annotations = map[string]string{ocispec.AnnotationRefName: n.Name}
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	return json.MarshalIndent(idx, "", "  ")
}

// writeIndex publishes index.json. The caller has locked it.
func (s *Store) writeIndex(data []byte) error {
	if err := s.writeFile(indexFile, data, true); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	_ = s.writeFile(indexCopy, encodeRecord(data), false) // at worst there is no copy of it
	return nil
}

func sameNamed(a, b Named) bool {
	return a.Name == b.Name && a.Root.Digest == b.Root.Digest
}
