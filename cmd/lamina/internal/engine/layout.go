package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/exporter"
	"lamina/exporter/archive"
)

// LayoutPrefix begins the name of an image in an OCI layout,
// "oci-layout://DIRECTORY[:TAG][@DIGEST]".
const LayoutPrefix = "oci-layout://"

// IsLayout tells whether ref names an image in an OCI layout.
func IsLayout(ref string) bool { return strings.HasPrefix(ref, LayoutPrefix) }

// layoutRef is what a name of an image in a layout says.
type layoutRef struct{ dir, tag, digest string }

// parseLayout parses "oci-layout://DIRECTORY[:TAG][@DIGEST]".
func parseLayout(ref string) (l layoutRef) {
	l.dir, l.digest, _ = strings.Cut(strings.TrimPrefix(ref, LayoutPrefix), "@")
	if i := strings.LastIndex(l.dir, ":"); i >= 0 && !strings.Contains(l.dir[i:], "/") {
		l.dir, l.tag = l.dir[:i], l.dir[i+1:]
	}
	return l
}

// CheckLayout tells what is wrong with the layout that ref names.
func CheckLayout(ref string) error {
	l := parseLayout(ref)
	if strings.Contains(l.dir, "\n") {
		return fmt.Errorf("the name of the layout %q has a line break", l.dir)
	}
	_, err := os.Stat(filepath.Join(l.dir, ocispec.ImageLayoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no OCI layout: it has no %s", l.dir, ocispec.ImageLayoutFile)
	}
	return err
}

// ResolveLayout is Resolve for an image in an OCI layout: that of the digest or the
// tag, or "latest", or the only one. Its layers stay where they are until they are needed.
func (e *Engine) ResolveLayout(ctx context.Context, ref string, p ocispec.Platform, _ Policy, _ func(string)) (*Resolved, error) {
	if err := CheckLayout(ref); err != nil {
		return nil, err
	}
	l := parseLayout(ref)
	dir, err := filepath.Abs(l.dir)
	if err != nil {
		return nil, err
	}
	a, err := e.layout(dir)
	if err != nil {
		return nil, err
	}
	root, err := l.find(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	blobs := from{e.Blobs, LayoutPrefix + dir}
	img, err := exporter.ReadImage(ctx, learning{blobs}, root, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	for _, layer := range img.Layers {
		if _, err := blobs.Has(ctx, *layer.Blob); err != nil {
			return nil, err
		}
	}
	return &Resolved{Root: root, Image: img, Blobs: e.Blobs, layout: ref}, nil
}

// find finds the root that l names in a.
func (l layoutRef) find(ctx context.Context, a *archive.Archive) (ocispec.Descriptor, error) {
	switch {
	case l.digest != "":
		return a.Resolve(ctx, l.digest)
	case l.tag != "":
		return a.Resolve(ctx, l.tag)
	}
	root, err := a.Resolve(ctx, "latest")
	if errors.Is(err, fs.ErrNotExist) && len(a.Images()) == 1 {
		return a.Images()[0].Root, nil
	}
	return root, err
}

// layout opens the layout in dir, once.
func (e *Engine) layout(dir string) (*archive.Archive, error) {
	e.layoutMu.Lock()
	defer e.layoutMu.Unlock()
	if a, ok := e.layouts[dir]; ok {
		return a, nil
	}
	tmp, err := e.Store.Temp()
	if err != nil {
		return nil, err
	}
	a, err := archive.Open(dir, tmp)
	if err != nil {
		return nil, err
	}
	if e.layouts == nil {
		e.layouts = map[string]*archive.Archive{}
	}
	e.layouts[dir] = a
	return a, nil
}

// closeLayouts closes what layout has opened.
func (e *Engine) closeLayouts() (err error) {
	e.layoutMu.Lock()
	defer e.layoutMu.Unlock()
	for _, a := range e.layouts {
		err = errors.Join(err, a.Close())
	}
	return err
}
