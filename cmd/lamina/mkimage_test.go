package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"lamina/cache"
	"lamina/cache/registry"
	"lamina/frontend"
)

// makeImage is the command
//
//	mkimage [-created TIME] [-platform LIST] NAME DIR
//
// which puts an image with the files of DIR into the registry that NAME begins
// with, if that is $REGISTRY, and into the store otherwise. Several platforms
// make an index. Equal arguments make equal images.
func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("mkimage", flag.ContinueOnError)
	created := flags.String("created", "2020-01-02T03:04:05Z", "")
	platforms := flags.String("platform", "linux/amd64", "")
	ts.Check(flags.Parse(args))
	if neg || flags.NArg() != 2 {
		ts.Fatalf("usage: mkimage [-created TIME] [-platform LIST] NAME DIR")
	}
	when, err := time.Parse(time.RFC3339, *created)
	ts.Check(err)
	name, err := registry.ParseName(flags.Arg(0))
	ts.Check(err)

	m := imageMaker{ctx: context.Background(), dst: destination(ts, name), created: when, check: ts.Check}
	layer, diffID := m.layer(ts.MkAbs(flags.Arg(1)))
	var all []ocispec.Descriptor
	for s := range strings.SplitSeq(*platforms, ",") {
		p, err := frontend.ParsePlatform(s)
		ts.Check(err)
		all = append(all, m.image(p, layer, diffID))
	}
	root := all[0]
	if len(all) > 1 {
		root = m.json(ocispec.MediaTypeImageIndex, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: all,
		})
	}
	ref := name.String()
	if name.Registry == ts.Getenv("REGISTRY") {
		ref = name.Tag
	}
	ts.Check(m.dst.Tag(m.ctx, ref, root))
}

// destination is where the image with that name goes.
func destination(ts *testscript.TestScript, name registry.Name) cache.Repository {
	if name.Registry == ts.Getenv("REGISTRY") {
		repo, err := registry.New(registry.Options{}).Repository(name)
		ts.Check(err)
		return repo
	}
	store, err := cache.Open(ts.Getenv("LAMINA_ROOT"))
	ts.Check(err)
	ts.Defer(func() { store.Close() })
	return store
}

type imageMaker struct {
	ctx     context.Context
	dst     cache.Repository
	created time.Time
	check   func(error)
}

func (m *imageMaker) put(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	m.check(m.dst.Put(m.ctx, d, bytes.NewReader(data)))
	return d
}

func (m *imageMaker) json(mediaType string, v any) ocispec.Descriptor {
	data, err := json.Marshal(v)
	m.check(err)
	return m.put(mediaType, data)
}

// layer packs the files of dir.
func (m *imageMaker) layer(dir string) (ocispec.Descriptor, digest.Digest) {
	var packed bytes.Buffer
	diff := digest.SHA256.Digester()
	gz := gzip.NewWriter(&packed)
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	m.check(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		h := &tar.Header{Name: name, Mode: 0o755, ModTime: m.created, Typeflag: tar.TypeDir}
		var data []byte
		if e.Type().IsRegular() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
			h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}))
	m.check(w.Close())
	diff.Hash().Write(plain.Bytes())
	_, err := gz.Write(plain.Bytes())
	m.check(err)
	m.check(gz.Close())
	return m.put(ocispec.MediaTypeImageLayerGzip, packed.Bytes()), diff.Digest()
}

// image makes the image for one platform.
func (m *imageMaker) image(p ocispec.Platform, layer ocispec.Descriptor, diffID digest.Digest) ocispec.Descriptor {
	config := dockerspec.DockerOCIImage{Image: ocispec.Image{
		Created: &m.created, Platform: p, Author: "somebody",
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History: []ocispec.History{
			{Created: &m.created, CreatedBy: "COPY . / # buildkit", Comment: "buildkit.dockerfile.v0"},
			{Created: &m.created, CreatedBy: `CMD ["/bin/a-program-with-a-name-that-is-much-too-long"]`, Comment: "buildkit.dockerfile.v0", EmptyLayer: true},
		},
	}}
	config.Config.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	config.Config.Cmd = []string{"/bin/a-program-with-a-name-that-is-much-too-long"}
	config.Config.Labels = map[string]string{"kind": "test"}
	d := m.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: m.json(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{layer},
	})
	d.Platform = &p
	return d
}
