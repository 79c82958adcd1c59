package exporter

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
)

// Image is one image of one platform.
type Image struct {
	Manifest    ocispec.Descriptor // with the platform
	ConfigDesc  ocispec.Descriptor
	Config      dockerspec.DockerOCIImage
	Layers      []snapshot.Layer // lowest first, each with DiffID and Blob
	Annotations map[string]string
}

// ReadImage reads the image for p that root stands for. Of an index it takes the
// manifest that suits p best, as the reference chooses it: an older variant, or
// the 32-bit sibling, where there is no better. A root that is a manifest is
// taken whatever its platform; the caller can tell by the Config. Nothing of the
// layers is read. No image for p is an error that lists the platforms there are.
func ReadImage(ctx context.Context, b cache.Blobs, root ocispec.Descriptor, p ocispec.Platform) (Image, error) {
	manifest := root
	if IsIndex(root.MediaType) {
		all, err := Manifests(ctx, b, root)
		if err != nil {
			return Image{}, err
		}
		m, ok := choosePlatform(all, p)
		if !ok {
			return Image{}, fmt.Errorf("image %s is not there for %s, only for %s", root.Digest, platformName(normalize(p)), platformNames(all))
		}
		manifest = m
	}
	return readImage(ctx, b, manifest)
}

func platformNames(manifests []ocispec.Descriptor) string {
	if len(manifests) == 0 {
		return "no platform at all"
	}
	var names []string
	for _, m := range manifests {
		names = append(names, platformName(*m.Platform))
	}
	return strings.Join(names, ", ")
}

func readImage(ctx context.Context, b cache.Blobs, d ocispec.Descriptor) (Image, error) {
	if !IsManifest(d.MediaType) && !isSchema1(d.MediaType) {
		return Image{}, fmt.Errorf("%s is not an image: its media type is %q", d.Digest, d.MediaType)
	}
	doc, err := readDocument(ctx, b, d)
	if err != nil {
		return Image{}, err
	}
	img := Image{Manifest: d, ConfigDesc: *doc.Config, Annotations: doc.Annotations}
	if !isConfig(img.ConfigDesc.MediaType) {
		return Image{}, fmt.Errorf("%s is not an image but an artifact of type %q", d.Digest, img.ConfigDesc.MediaType)
	}
	data, err := readBlob(ctx, b, img.ConfigDesc)
	if err != nil {
		return Image{}, err
	}
	if err := json.Unmarshal(data, &img.Config); err != nil {
		return Image{}, fmt.Errorf("read config %s: %w", img.ConfigDesc.Digest, err)
	}
	diffs := img.Config.RootFS.DiffIDs
	if len(diffs) != len(doc.Layers) {
		return Image{}, fmt.Errorf("image %s is damaged: its manifest has %d layers, its config %d", d.Digest, len(doc.Layers), len(diffs))
	}
	for i, blob := range doc.Layers {
		if err := diffs[i].Validate(); err != nil {
			return Image{}, fmt.Errorf("image %s is damaged: diff ID %q: %w", d.Digest, diffs[i], err)
		}
		img.Layers = append(img.Layers, snapshot.Layer{DiffID: diffs[i], Blob: &blob})
	}
	if img.Manifest.Platform == nil {
		p := img.Config.Platform
		img.Manifest.Platform = &p
	}
	return img, nil
}

// Manifests lists the image manifests beneath root, those of nested indexes
// included, each with its platform, which is read from the config where the
// index does not say. Attestations and other artifacts are left out.
func Manifests(ctx context.Context, b cache.Blobs, root ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	err := walkIndexes(ctx, b, root, func(d ocispec.Descriptor) error {
		if IsAttestation(d) {
			return nil
		}
		if d.Platform == nil {
			doc, err := readDocument(ctx, b, d)
			if err != nil {
				return err
			}
			if !isConfig(doc.Config.MediaType) {
				return nil
			}
			p, err := configPlatform(ctx, b, *doc.Config)
			if err != nil {
				return err
			}
			d.Platform = &p
		}
		all = append(all, d)
		return nil
	})
	return all, err
}

// maxIndexes bounds how deep indexes nest: their digests rule out loops, but not
// endless chains from a hostile registry.
const maxIndexes = 8

func walkIndexes(ctx context.Context, b cache.Blobs, root ocispec.Descriptor, fn func(ocispec.Descriptor) error) error {
	var visit func(d ocispec.Descriptor, depth int) error
	visit = func(d ocispec.Descriptor, depth int) error {
		switch {
		case IsManifest(d.MediaType):
			return fn(d)
		case !IsIndex(d.MediaType):
			return nil
		case depth == maxIndexes:
			return fmt.Errorf("index %s: more than %d indexes inside each other", root.Digest, maxIndexes)
		}
		children, err := Children(ctx, b, d)
		if err != nil {
			return err
		}
		for _, child := range children {
			if err := visit(child, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(root, 0)
}

// IsAttestation tells whether the index holds d only as a statement about
// another of its manifests: such entries are for no platform.
func IsAttestation(d ocispec.Descriptor) bool {
	if d.Annotations[attestationTypeKey] == attestationManifest {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

func configPlatform(ctx context.Context, b cache.Blobs, config ocispec.Descriptor) (ocispec.Platform, error) {
	data, err := readBlob(ctx, b, config)
	if err != nil {
		return ocispec.Platform{}, err
	}
	var p ocispec.Platform
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("read config %s: %w", config.Digest, err)
	}
	return p, nil
}
