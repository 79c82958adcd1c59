package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/registry"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/solver/local"
)

// Policy says when a registry is asked what a name stands for.
type Policy string

// The policies, by docker's names.
const (
	// PullMissing asks for names that the store does not have.
	PullMissing Policy = "missing"
	// PullAlways asks each time.
	PullAlways Policy = "always"
	// PullNever does not ask.
	PullNever Policy = "never"
	// PullNewer asks each time, and makes do with what is here if nobody answers
	// or the registry no longer has the name.
	PullNewer Policy = "newer"
)

// Resolved is an image that a name stands for.
type Resolved struct {
	Name  registry.Name
	Root  ocispec.Descriptor
	Image exporter.Image
	// Blobs is where the image's parts can be read.
	Blobs cache.Blobs
	// Here is set if the store has the name, so that there is nothing to pull: of
	// an image for several platforms that would lose the others.
	Here bool

	layout string // what was asked for, if that was an image of a layout
}

// Ref is the image's full name; an image of a layout has none.
func (r *Resolved) Ref() string {
	if r.layout != "" {
		return r.layout
	}
	return r.Name.String()
}

// Resolve finds the image that name stands for, for platform p: in the store if
// it has the name, unless policy says otherwise, and else in its registry. Only
// its manifest and configuration are fetched.
//
// A registry that cannot be reached is no reason to fail while it is known what
// it answered last: warn is told, and the last answer counts.
func (e *Engine) Resolve(ctx context.Context, name string, p ocispec.Platform, policy Policy, warn func(string)) (*Resolved, error) {
	n, err := registry.ParseName(name)
	if err != nil {
		return nil, err
	}
	if policy != PullAlways && policy != PullNewer {
		r, err := e.resolveHere(ctx, n, p)
		if !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		if policy == PullNever {
			return nil, &unpulledError{n}
		}
	}
	root, err := e.ask(ctx, n, warn)
	if err != nil {
		if r, herr := e.resolveHere(ctx, n, p); policy == PullNewer && herr == nil {
			e.log.Info("the store's image is used", "name", n.Familiar(), "reason", err)
			return r, nil
		}
		return nil, err
	}
	blobs := from{e.Blobs, n.Origin()}
	img, err := exporter.ReadImage(ctx, learning{blobs}, root, p)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", n.Familiar(), err)
	}
	for _, l := range img.Layers {
		if _, err := blobs.Has(ctx, *l.Blob); err != nil {
			return nil, err
		}
	}
	return &Resolved{Name: n, Root: root, Image: img, Blobs: e.Blobs}, nil
}

// unpulledError is of an image that would have to be pulled, but must not be.
type unpulledError struct{ name registry.Name }

func (e *unpulledError) Error() string {
	return fmt.Sprintf("image %s is not in the store, and may not be pulled", e.name.Familiar())
}

// Is says that it is a miss.
func (e *unpulledError) Is(target error) bool { return target == fs.ErrNotExist }

// resolveHere looks name up in the store. An image there for another platform
// only is not there.
func (e *Engine) resolveHere(ctx context.Context, n registry.Name, p ocispec.Platform) (*Resolved, error) {
	root, err := e.Store.Resolve(ctx, n.String())
	if err != nil && n.Digest != "" {
		root, err = e.byDigest(ctx, n.Digest)
	}
	if err != nil {
		return nil, err
	}
	img, err := exporter.ReadImage(ctx, e.Blobs, root, p)
	if err != nil {
		return nil, err
	}
	if !suits(img.Config.Platform, p) {
		return nil, fmt.Errorf("image %s is in the store for %s/%s only: %w", n.Familiar(), img.Config.OS, img.Config.Architecture, fs.ErrNotExist)
	}
	return &Resolved{Name: n, Root: root, Image: img, Blobs: e.Blobs, Here: true}, nil
}

// byDigest finds a root that has the digest d, whatever its name.
func (e *Engine) byDigest(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	all, err := e.Store.Names(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, n := range all {
		if n.Root.Digest == d {
			return n.Root, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", d, fs.ErrNotExist)
}

// suits tells whether an image for has can stand for one for want. What an image
// does not say is anything.
func suits(has, want ocispec.Platform) bool {
	return (has.OS == "" || want.OS == "" || has.OS == want.OS) &&
		(has.Architecture == "" || want.Architecture == "" || has.Architecture == want.Architecture)
}

// ask asks the registry for a name's root and remembers the answer. What is named
// by a digest that was seen before need not be asked for.
func (e *Engine) ask(ctx context.Context, n registry.Name, warn func(string)) (ocispec.Descriptor, error) {
	key := digest.FromString("resolved " + n.String())
	last, lastErr := e.answered(ctx, key)
	if n.Digest != "" && lastErr == nil {
		return last, nil
	}
	root, err := e.Registry.Resolve(ctx, n.String())
	var rerr *registry.Error
	if err != nil && lastErr == nil && errors.As(err, &rerr) && rerr.Kind == registry.Network {
		if warn != nil {
			warn(fmt.Sprintf("%v; using %s, which %s was when it was last asked for", err, last.Digest, n.Familiar()))
		}
		return last, nil
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if data, err := json.Marshal(root); err == nil && root.Digest != last.Digest {
		_ = e.Store.Index().Put(ctx, key, data) // at worst it is asked for again
	}
	return root, nil
}

func (e *Engine) answered(ctx context.Context, key cache.Key) (d ocispec.Descriptor, err error) {
	data, err := e.Store.Index().Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err == nil {
		err = d.Digest.Validate()
	}
	return d, err
}

// learning reads an image of which the store may not know yet where it is.
type learning struct{ from }

func (l learning) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if _, err := l.Has(ctx, d); err != nil {
		return nil, err
	}
	return l.Lazy.Open(ctx, d)
}

// Pull makes the whole of r's image part of the store. Its name stands for the
// image of the platform alone, since that is all there is of it here.
func (e *Engine) Pull(ctx context.Context, r *Resolved) (ocispec.Descriptor, error) {
	root := r.Image.Manifest
	if err := exporter.Copy(ctx, e.Store, e.Blobs, root, exporter.CopyOptions{}); err != nil {
		return root, fmt.Errorf("pull %s: %w", r.Name.Familiar(), err)
	}
	name := r.Name.String()
	if r.Name.Tag == "" && strings.Contains(name, "@") {
		return root, e.Store.Hold(ctx, root)
	}
	return root, e.Store.Tag(ctx, name, root)
}

// Push sends the image root to the registry and gives it the name n there, or no
// name if n is one by digest.
func (e *Engine) Push(ctx context.Context, n registry.Name, root ocispec.Descriptor) error {
	repo, err := e.Registry.Repository(n)
	if err != nil {
		return err
	}
	var names []string
	if n.Digest == "" { // which the image has without being told
		names = append(names, n.Reference())
	}
	if err := exporter.To(repo, names...).Export(ctx, e.Blobs, root); err != nil {
		return fmt.Errorf("push %s: %w", n.Familiar(), err)
	}
	// From now on each blob can be mounted from here, or fetched again.
	return exporter.Walk(ctx, e.Blobs, root, func(d ocispec.Descriptor) error {
		return e.Store.AddOrigin(d.Digest, n.Origin())
	})
}

// Tree returns a filesystem to read from, whose layers are fetched and unpacked
// if they are not here.
func (e *Engine) Tree(ctx context.Context, layers []snapshot.Layer) (snapshot.Tree, error) {
	ids, err := e.Worker(local.Config{}).Unpack(ctx, layers, nil)
	if err != nil {
		return nil, err
	}
	return e.Pool.Stack(ids)
}
