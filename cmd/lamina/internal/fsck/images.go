package fsck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/registry"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/layer"
)

const indexFile = "index.json"

// images checks index.json, and that every image is whole.
func (c *checker) images(ctx context.Context) error {
	roots, err := c.names(ctx)
	if err != nil {
		return err
	}
	for _, n := range roots {
		if err := c.image(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// names returns the roots that there are, or will be when index.json is repaired.
func (c *checker) names(ctx context.Context) ([]cache.Named, error) {
	unlock, err := c.store.LockNames(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now, err := c.store.ReadNames()
	last, lastErr := c.store.LastNames()
	f := Finding{Part: Images, Path: indexFile}
	switch {
	case err == nil && lastErr == nil:
		all, lost := c.reconcile(now, last)
		f.Problem, f.Remedy = "is not what lamina wrote last", "it is written again, with all names of both; what it was is kept as index.json.damaged"
		f.Effects = lost
		switch {
		case !slices.EqualFunc(now, all, sameNamed):
			c.damage(f, c.replaceNames(all))
		case !c.store.NamesIntact(): // it means the same
			c.note(f, c.replaceNames(all))
		}
		return all, nil
	case err == nil && !c.sound(now):
		all := c.keepSound(now)
		f.Problem, f.Remedy = "is damaged", "what makes no sense of it is left out; what it was is kept as index.json.damaged"
		c.damage(f, c.replaceNames(all))
		return all, nil
	case err == nil:
		if errors.Is(lastErr, fs.ErrNotExist) && len(now) == 0 {
			return now, nil
		}
		f.Path, f.Problem, f.Remedy = "index.copy", "is damaged", "it is written again"
		if errors.Is(lastErr, fs.ErrNotExist) { // of an older lamina
			f.Problem = "is missing"
			c.note(f, c.replaceNames(now))
		} else {
			c.damage(f, c.replaceNames(now))
		}
		return now, nil
	case lastErr == nil:
		f.Problem, f.Remedy = "is damaged", "it is written again from its copy"
		if errors.Is(err, fs.ErrNotExist) {
			f.Problem = "is missing"
		}
		c.damage(f, c.replaceNames(last))
		return last, nil
	}
	var damaged interface{ Unwrap() error }
	if !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return nil, err
	}
	all, findErr := c.findRoots()
	if findErr != nil {
		return nil, findErr
	}
	if errors.Is(err, fs.ErrNotExist) && errors.Is(lastErr, fs.ErrNotExist) && len(all) == 0 {
		return nil, nil // nobody has named anything yet
	}
	f.Problem = "is damaged, and so is its copy"
	f.Effects = []string{"the names of all images are lost"}
	f.Remedy = "images are found again, without names ('lamina tag' gives them new ones); what it was is kept as index.json.damaged"
	c.damage(f, c.replaceNames(all))
	return all, nil
}

func (c *checker) replaceNames(all []cache.Named) func(context.Context) error {
	return func(ctx context.Context) error { return c.store.ReplaceNames(ctx, all) }
}

func sameNamed(a, b cache.Named) bool {
	return a.Name == b.Name && a.Root.Digest == b.Root.Digest && a.Root.Size == b.Root.Size && a.Root.MediaType == b.Root.MediaType
}

// reconcile returns the names of index.json and those of its copy: where they say
// different things, another program has changed index.json, or it was damaged. No
// name is lost for being in one of them only. It also tells which those are.
func (c *checker) reconcile(now, last []cache.Named) (all []cache.Named, lost []string) {
	all = slices.Clone(last)
	for _, n := range now {
		if slices.ContainsFunc(last, func(l cache.Named) bool { return sameNamed(l, n) }) {
			continue
		}
		i := slices.IndexFunc(all, func(l cache.Named) bool { return n.Name != "" && l.Name == n.Name })
		switch {
		case !c.sane(n) || !c.has(n.Root.Digest, n.Root.Size):
		case i >= 0:
			all[i] = n // it stands for something else now
		default:
			all = append(all, n)
		}
	}
	for _, l := range last {
		if !slices.ContainsFunc(now, func(n cache.Named) bool { return sameNamed(n, l) }) {
			lost = append(lost, fmt.Sprintf("%s is not found by its name", imageName(l)))
		}
	}
	return all, lost
}

// sane tells whether an entry of index.json makes sense.
func (c *checker) sane(n cache.Named) bool {
	if n.Root.Digest.Validate() != nil || n.Root.Size < 0 || !exporter.IsIndex(n.Root.MediaType) && !exporter.IsManifest(n.Root.MediaType) {
		return false
	}
	if n.Name == "" {
		return true
	}
	_, err := registry.ParseName(n.Name)
	return err == nil
}

func (c *checker) sound(all []cache.Named) bool {
	return !slices.ContainsFunc(all, func(n cache.Named) bool { return !c.sane(n) })
}

// keepSound leaves out what makes no sense; a root whose name does not keeps without.
func (c *checker) keepSound(all []cache.Named) (kept []cache.Named) {
	for _, n := range all {
		if !c.sane(n) {
			n.Name = ""
		}
		if c.sane(n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// imageName is what people call a root.
func imageName(n cache.Named) string {
	if n.Name == "" {
		return "image " + short(n.Root.Digest)
	}
	if name, err := registry.ParseName(n.Name); err == nil {
		return "image " + name.Familiar()
	}
	return "image " + n.Name
}

func short(d digest.Digest) string {
	if d.Validate() != nil {
		return d.String()
	}
	return d.Encoded()[:12]
}

// maxManifest is the largest blob that is looked at for being a manifest, in bytes.
const maxManifest = 4 << 20

// findRoots finds the manifests and indexes among the blobs that no other one
// refers to.
func (c *checker) findRoots() ([]cache.Named, error) {
	entries, err := os.ReadDir(c.store.Path("blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	var all []cache.Named
	inner := map[digest.Digest]bool{}
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		info, err := e.Info()
		if err != nil || d.Validate() != nil || c.badBlobs[d] || info.Size() > maxManifest {
			continue
		}
		data, err := os.ReadFile(c.blobPath(d))
		if err != nil {
			continue
		}
		var doc struct {
			MediaType string               `json:"mediaType"`
			Config    *ocispec.Descriptor  `json:"config"`
			Manifests []ocispec.Descriptor `json:"manifests"`
		}
		if json.Unmarshal(data, &doc) != nil {
			continue
		}
		switch {
		case exporter.IsIndex(doc.MediaType):
			for _, m := range doc.Manifests {
				inner[m.Digest] = true
			}
		case !exporter.IsManifest(doc.MediaType) || doc.Config == nil || !exporter.IsConfig(doc.Config.MediaType):
			continue
		}
		all = append(all, cache.Named{Root: ocispec.Descriptor{MediaType: doc.MediaType, Digest: d, Size: info.Size()}})
	}
	return slices.DeleteFunc(all, func(n cache.Named) bool { return inner[n.Root.Digest] }), nil
}

// image checks that all of a root is here or known to be elsewhere.
func (c *checker) image(ctx context.Context, n cache.Named) error {
	c.report.Images++
	var gone []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	var visit func(d ocispec.Descriptor) error
	visit = func(d ocispec.Descriptor) error {
		if seen[d.Digest] {
			return nil
		}
		seen[d.Digest] = true
		if !c.has(d.Digest, d.Size) {
			if !c.elsewhere(d.Digest) && len(d.URLs) == 0 {
				gone = append(gone, d)
			}
			return nil
		}
		children, err := exporter.Children(ctx, c.store, d)
		var corrupt *cache.CorruptError
		if errors.As(err, &corrupt) || errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, d)
			return nil
		}
		if err != nil && ctx.Err() == nil { // it is what it was, and never was an image
			c.note(Finding{Part: Images, Path: indexFile, Problem: fmt.Sprintf("%s is none: %v", imageName(n), err)}, nil)
			return nil
		}
		for _, child := range children {
			if err := visit(child); err != nil {
				return err
			}
		}
		return err
	}
	if err := visit(n.Root); err != nil {
		return err
	}
	for _, d := range gone {
		c.incomplete(n, d)
	}
	return nil
}

// incomplete reports that the image n lacks d. The name is kept: it is wrong about
// nothing, and what else there is of the image need not be fetched again.
func (c *checker) incomplete(n cache.Named, d ocispec.Descriptor) {
	what := "its " + kindOf(d)
	f := Finding{
		Part: Images, Path: indexFile, Problem: fmt.Sprintf("%s lacks %s, %s", imageName(n), what, d.Digest),
		Remedy: "build it again, pull it again, or remove it ('lamina rmi')",
	}
	of, ok := c.packed[d.Digest]
	unusable := d.Digest == n.Root.Digest || exporter.IsManifest(n.Root.MediaType) && exporter.IsConfig(d.MediaType)
	if n.Name == "" && unusable { // there is nothing that anybody could ask for
		f.Problem, f.Remedy = fmt.Sprintf("%s, which has no name, lacks %s", imageName(n), what), "it is forgotten"
		c.damage(f, func(ctx context.Context) error {
			err := c.store.Forget(ctx, n.Root.Digest)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		return
	}
	if !ok {
		f.Effects = []string{"it cannot be pushed or saved as a whole, nor run if that is not unpacked"}
		c.damage(f, nil)
		return
	}
	remedy := f.Remedy
	f.Remedy = "it is packed again from its files"
	c.damage(f, func(ctx context.Context) error { return c.repack(ctx, of, d, remedy) })
}

func kindOf(d ocispec.Descriptor) string {
	switch {
	case exporter.IsLayer(d.MediaType):
		return "layer"
	case exporter.IsManifest(d.MediaType):
		return "manifest"
	case exporter.IsIndex(d.MediaType):
		return "index"
	case exporter.IsConfig(d.MediaType):
		return "configuration"
	}
	return "part of type " + d.MediaType
}

// packing is how a blob was made of a layer.
type packing struct {
	layer snapshot.ID
	form  string
}

// repack makes the blob d again of the layer that it was packed of.
func (c *checker) repack(ctx context.Context, of packing, d ocispec.Descriptor, otherwise string) error {
	opt, err := exporter.ParseForm(of.form)
	if err != nil {
		return &leftError{otherwise}
	}
	packed, err := exporter.PackLayers(ctx, []snapshot.Layer{{ID: of.layer}}, c.pool, c.store, opt)
	if err != nil {
		return err
	}
	if packed[0].Blob.Digest != d.Digest { // by another version of the compressor
		return &leftError{otherwise}
	}
	return nil
}

// byDiffID returns the layer that has the diff ID, if there is one.
func (c *checker) byDiffID(diffID digest.Digest) snapshot.ID {
	id := layer.DiffIDName(diffID)
	if target, err := os.Readlink(c.store.Path("layers", string(id))); err == nil {
		return snapshot.ID(target)
	}
	return id
}
