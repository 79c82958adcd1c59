// Package archive reads and writes images as files: OCI image layouts, as a
// directory or in a tar, and docker's archives.
//
//	err := archive.Write(ctx, w, store, []archive.Image{{Root: root, Names: names}}, archive.Options{Docker: true})
//
//	a, err := archive.Open("image.tar", tmp) // whichever of the forms it is
//	defer a.Close()
//	for _, image := range a.Images() { … }   // and a is a cache.Repository to copy from
//
// What is written for docker is both at once, as docker itself does since version
// 25: an OCI layout, and beside it manifest.json, which names the same blobs for
// everything that is older.
//
//	oci-layout               {"imageLayoutVersion":"1.0.0"}
//	index.json               the roots, with their names as annotations
//	manifest.json            [{"Config": path, "RepoTags": [name], "Layers": [path]}]
//	blobs/sha256/<hex>
package archive

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// manifestFile is docker's index of an archive.
const manifestFile = "manifest.json"

// annotationName carries the whole name of an image; [ocispec.AnnotationRefName]
// carries its tag alone.
const annotationName = "io.containerd.image.name"

// Image is one image, or the index of several, and its names.
type Image struct {
	Root ocispec.Descriptor
	// Names are complete, such as "docker.io/library/debian:12", when written, and
	// as the archive has them when read.
	Names []string
	// Annotations are written beside the root's digest, with its name.
	Annotations map[string]string
}

// Options are the options of [Write].
type Options struct {
	// Docker adds what docker and podman need to load the archive.
	Docker bool
	// Platform is the one image of an index that loaders get to see that know but
	// one image for a name. Zero means this machine's.
	Platform ocispec.Platform
	// Progress, if not nil, is told of every blob.
	Progress cache.Progress
}

// dockerImage is an element of manifest.json.
type dockerImage struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// blobPath is where a layout has the blob (OCI image-spec, image-layout.md).
func blobPath(d ocispec.Descriptor) string {
	return ocispec.ImageBlobsDir + "/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

// entries are the descriptors by which an index names the image.
func (img Image) entries() []ocispec.Descriptor {
	root := img.Root
	root.Annotations = maps.Clone(img.Annotations)
	if len(img.Names) == 0 {
		return []ocispec.Descriptor{root}
	}
	var all []ocispec.Descriptor
	for _, name := range img.Names {
		d := root
		d.Annotations = map[string]string{}
		maps.Copy(d.Annotations, img.Annotations)
		d.Annotations[annotationName], d.Annotations[ocispec.AnnotationRefName] = name, tagOf(name)
		all = append(all, d)
	}
	return all
}

// tagOf is the tag of a name, or all of a name that has none.
func tagOf(name string) string {
	if i := strings.LastIndexAny(name, ":/@"); i >= 0 && name[i] == ':' && !strings.Contains(name, "@") {
		return name[i+1:]
	}
	return name
}

// familiar is the name as docker shows it, without what it would add by itself.
func familiar(name string) string {
	short, ok := strings.CutPrefix(name, "docker.io/")
	if !ok {
		return name
	}
	if official, ok := strings.CutPrefix(short, "library/"); ok {
		return official
	}
	return short
}

func layoutJSON() []byte {
	return []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
}

func indexJSON(manifests []ocispec.Descriptor) ([]byte, error) {
	return json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: slices.Concat([]ocispec.Descriptor{}, manifests),
	})
}
