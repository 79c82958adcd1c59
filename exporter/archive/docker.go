package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// readDocker reads what docker wrote before version 25, and podman writes still:
// manifest.json names files, and there are no manifests, so they are made up.
func (a *Archive) readDocker() error {
	var list []dockerImage
	if err := readJSON(a.fsys, manifestFile, &list); err != nil {
		return err
	}
	for _, entry := range list {
		root, err := a.implied(entry)
		if errors.Is(err, fs.ErrNotExist) {
			// A missing part must not look like a missing manifest.json.
			return fmt.Errorf("the archive is incomplete: %v", err)
		}
		if err != nil {
			return err
		}
		a.add(root, "", "")
		for _, name := range entry.RepoTags {
			a.add(root, name, "")
		}
	}
	return nil
}

// implied makes the manifest of one image.
func (a *Archive) implied(entry dockerImage) (ocispec.Descriptor, error) {
	data, err := readFile(a.fsys, path.Clean(entry.Config))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", entry.Config, err)
	}
	if len(config.RootFS.DiffIDs) != len(entry.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("%s names %d layers, the image's config %d", manifestFile, len(entry.Layers), len(config.RootFS.DiffIDs))
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    a.keep(ocispec.MediaTypeImageConfig, data),
		Layers:    []ocispec.Descriptor{},
	}
	for i, name := range entry.Layers {
		d, err := a.layer(path.Clean(name), config.RootFS.DiffIDs[i])
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	data, err = json.Marshal(manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	root := a.keep(ocispec.MediaTypeImageManifest, data)
	root.Platform = &config.Platform
	return root, nil
}

// keep holds a document in memory.
func (a *Archive) keep(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	a.made[d.Digest] = data
	return d
}

// layer describes the file name, which holds the layer diffID. Usually it is not
// compressed, so that its digest is the diff ID and need not be computed.
func (a *Archive) layer(name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	f, err := a.fsys.Open(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: st.Size()}
	head := make([]byte, magicSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return d, err
	}
	if suffix := compressionOf(head[:n]); suffix != "" {
		d.MediaType += suffix
		hash := digest.SHA256.Digester()
		hash.Hash().Write(head[:n])
		if _, err := io.Copy(hash.Hash(), f); err != nil {
			return d, err
		}
		d.Digest = hash.Digest()
	}
	if err := d.Digest.Validate(); err != nil {
		return d, fmt.Errorf("layer %s: diff ID %q: %w", name, diffID, err)
	}
	a.paths[d.Digest] = name
	return d, nil
}
