package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// Output is one image to be packed: the layers, and what to say about them.
type Output struct {
	// Platform goes into the index; if it is zero, the Config's is taken.
	Platform ocispec.Platform
	// Config is written as it is, except for RootFS, which Pack fills in; History,
	// which is made to fit the layers if it does not; and Created, which is the
	// last history entry's if it is nil.
	Config dockerspec.DockerOCIImage
	// OmitHistory leaves the history out.
	OmitHistory bool
	// Layers are the image's, lowest first.
	Layers []snapshot.Layer
	// Annotations go into the manifest.
	Annotations map[string]string
	// ConfigMembers are added to the written Config: what its type does not know.
	ConfigMembers map[string]json.RawMessage
	// DescriptorAnnotations go beside the manifest's digest, wherever that is.
	DescriptorAnnotations map[string]string
	// Attestations are statements about the image. With any, there is an index.
	Attestations []Attestation
}

// Store is where Pack writes to.
type Store interface {
	cache.Blobs
	cache.Ingester
}

// PackOptions are the options of [Pack]. The zero value is what most want.
type PackOptions struct {
	// Compression is of layers made on this machine; empty means Gzip.
	Compression Compression
	// Level of the compression; nil means the usual one, which is remembered
	// across builds and machines as the same bytes.
	Level *int
	// Force makes Pack compress anew the layers of base images as well, if they
	// are compressed in another way. They keep their diff IDs.
	Force bool
	// DockerTypes writes docker's media types instead of OCI's.
	DockerTypes bool
	// Epoch, if set, replaces every later time in layers made on this machine, or
	// all times there. Layers that came from images stay as they are, and the times
	// in the Config are the caller's business.
	Epoch    *time.Time
	AllTimes bool
	// Index makes an index even of one image.
	Index bool
	// IndexAnnotations go into the index, IndexDescriptorAnnotations beside its
	// digest. They are an error if there is none.
	IndexAnnotations, IndexDescriptorAnnotations map[string]string
	// ImageAttestations writes attestations in the form of images, for registries
	// that know nothing else, instead of as artifacts.
	ImageAttestations bool
	// Jobs is the number of layers packed at once; 0 means one for each core, at
	// most four.
	Jobs int
	// Progress, if not nil, is told how many bytes of a layer's archive have been
	// packed. It may be called from several goroutines at once.
	Progress func(id snapshot.ID, done int64)
}

// Pack writes outs as images to blobs and returns the root: the manifest of one
// output, the index of several. Equal layers and configs give equal bytes.
//
// A layer that came from an image keeps its blob, which need not even be here.
// Others are written as archives and compressed, in parallel and in constant
// memory; the result is remembered beside the layer, so that it is done once. A
// memo whose blob has left the store is recomputed.
func Pack(ctx context.Context, outs []Output, pool *layer.Pool, blobs Store, opt PackOptions) (ocispec.Descriptor, error) {
	if err := opt.check(outs); err != nil {
		return ocispec.Descriptor{}, err
	}
	enc, err := newEncoder(opt.Compression, opt.Level)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	p := &packer{pool: pool, blobs: blobs, enc: enc, opt: opt}
	layers, err := p.layers(ctx, outs)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var manifests, attestations []ocispec.Descriptor
	for _, out := range outs {
		var packed []layer.Packed
		for _, l := range out.Layers {
			packed = append(packed, layers[keyOf(l)])
		}
		d, err := p.image(ctx, out, packed)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		manifests = append(manifests, d)
		if len(out.Attestations) == 0 {
			continue
		}
		if d, err = p.attest(ctx, d, out.Attestations); err != nil {
			return ocispec.Descriptor{}, err
		}
		attestations = append(attestations, d)
	}
	if !opt.indexed(outs) {
		return manifests[0], nil
	}
	return p.index(ctx, append(manifests, attestations...))
}

// indexed tells whether there is an index.
func (opt PackOptions) indexed(outs []Output) bool {
	return len(outs) > 1 || opt.Index || len(outs[0].Attestations) > 0
}

// check refuses what the reference refuses, too.
func (opt PackOptions) check(outs []Output) error {
	if len(outs) == 0 {
		return errors.New("pack: nothing to pack")
	}
	ofIndex := len(opt.IndexAnnotations) + len(opt.IndexDescriptorAnnotations)
	if ofIndex > 0 && !opt.indexed(outs) {
		return errors.New("pack: an image of a single platform has no index to annotate")
	}
	if !opt.DockerTypes {
		return nil
	}
	if opt.Compression == Zstd {
		return errors.New("pack: docker's media types know no zstd: use OCI's, or gzip")
	}
	for _, out := range outs {
		if ofIndex > 0 || len(out.DescriptorAnnotations) > 0 {
			return errors.New("pack: docker's media types have no annotations on an index: use OCI's")
		}
		if len(out.Attestations) > 0 {
			return errors.New("pack: docker's media types have no attestations: use OCI's")
		}
	}
	return nil
}

// CheckCompression tells what is wrong with the compression and its level.
func (opt PackOptions) CheckCompression() error {
	_, err := newEncoder(opt.Compression, opt.Level)
	return err
}

type packer struct {
	pool  *layer.Pool
	blobs Store
	enc   encoder
	opt   PackOptions
}

// image writes config and manifest of one output.
func (p *packer) image(ctx context.Context, out Output, layers []layer.Packed) (ocispec.Descriptor, error) {
	platform := out.Platform
	if platform.OS == "" && platform.Architecture == "" {
		platform = out.Config.Platform
	}
	config, err := configJSON(out, layers)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pack image for %s: %w", platformName(platform), err)
	}
	manifestType, configType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	if p.opt.DockerTypes {
		manifestType, configType = dockerManifest, dockerConfig
	}
	configDesc, err := p.put(ctx, configType, config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   manifestType,
		Config:      configDesc,
		Layers:      []ocispec.Descriptor{},
		Annotations: out.Annotations,
	}
	for _, l := range layers {
		manifest.Layers = append(manifest.Layers, p.layerDescriptor(l.Blob))
	}
	d, err := p.putDocument(ctx, manifestType, manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d.Platform = &platform
	d.Annotations = maps.Clone(out.DescriptorAnnotations)
	return d, nil
}

// layerDescriptor says in the wanted vocabulary what the manifest says of a
// layer. Annotations that describe where a store got a blob from are not the
// image's, and docker's manifests have none.
func (p *packer) layerDescriptor(d ocispec.Descriptor) ocispec.Descriptor {
	out := ocispec.Descriptor{
		MediaType: convertLayerType(d.MediaType, p.opt.DockerTypes),
		Digest:    d.Digest,
		Size:      d.Size,
		URLs:      d.URLs,
	}
	if p.opt.DockerTypes {
		return out
	}
	for key, value := range d.Annotations {
		if isStoreAnnotation(key) {
			continue
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[key] = value
	}
	return out
}

func (p *packer) index(ctx context.Context, manifests []ocispec.Descriptor) (ocispec.Descriptor, error) {
	mediaType := ocispec.MediaTypeImageIndex
	if p.opt.DockerTypes {
		mediaType = dockerIndex
	}
	d, err := p.putDocument(ctx, mediaType, ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   mediaType,
		Manifests:   manifests,
		Annotations: p.opt.IndexAnnotations,
	})
	d.Annotations = maps.Clone(p.opt.IndexDescriptorAnnotations)
	return d, err
}

// putDocument stores a manifest or an index, laid out for people to read as the
// reference does.
func (p *packer) putDocument(ctx context.Context, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return p.put(ctx, mediaType, data)
}

func (p *packer) put(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	return p.blobs.Ingest(ctx, mediaType, bytes.NewReader(data))
}
