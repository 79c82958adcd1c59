package exporter

import (
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's names for what OCI standardised (image manifest version 2, schema 2).
const (
	dockerManifest    = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex       = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig      = dockerspec.DockerOCIImageMediaType
	dockerLayer       = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign     = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	dockerSchema1     = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Sign = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// ociForeign is the stem of OCI's media types for layers that are not to be
// distributed. The specification deprecates them; old Windows bases have them.
const ociForeign = "application/vnd.oci.image.layer.nondistributable.v1.tar"

// layerStems pairs OCI's and docker's stem of a layer's media type. A suffix for
// the compression follows: "+gzip" there, ".gzip" here.
var layerStems = [...]struct{ oci, docker string }{
	{ocispec.MediaTypeImageLayer, dockerLayer},
	{ociForeign, dockerForeign},
}

// splitLayerType parses the media type of a layer: the row of its stem and the
// compression, "" for none.
func splitLayerType(mediaType string) (row int, compression string, ok bool) {
	for i, stem := range layerStems {
		if rest, ok := strings.CutPrefix(mediaType, stem.oci); ok && (rest == "" || rest[0] == '+') {
			return i, strings.TrimPrefix(rest, "+"), true
		}
		if rest, ok := strings.CutPrefix(mediaType, stem.docker); ok && (rest == "" || rest[0] == '.') {
			return i, strings.TrimPrefix(rest, "."), true
		}
	}
	return 0, "", false
}

// convertLayerType returns the media type of the same bytes in the other
// vocabulary. What is no layer's type stays as it is.
func convertLayerType(mediaType string, docker bool) string {
	row, compression, ok := splitLayerType(mediaType)
	switch {
	case !ok:
		return mediaType
	case docker && compression == "":
		return layerStems[row].docker
	case docker:
		return layerStems[row].docker + "." + compression
	case compression == "":
		return layerStems[row].oci
	default:
		return layerStems[row].oci + "+" + compression
	}
}

// isForeign tells whether the media type is of a layer that need not be stored
// with the image, because its license or its size keeps it elsewhere.
func isForeign(mediaType string) bool {
	row, _, ok := splitLayerType(mediaType)
	return ok && row > 0
}

// DockerManifest is docker's media type of an image manifest.
const DockerManifest = dockerManifest

// DockerLayerType returns docker's media type of a layer that has this one of OCI's.
func DockerLayerType(mediaType string) string { return convertLayerType(mediaType, true) }

// IsLayer tells whether the media type is that of an image's layer, compressed or
// not.
func IsLayer(mediaType string) bool {
	_, _, ok := splitLayerType(mediaType)
	return ok
}

// IsConfig tells whether the media type is that of an image's configuration.
func IsConfig(mediaType string) bool { return isConfig(mediaType) }

// IsManifest tells whether the media type is that of an image manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// IsIndex tells whether the media type is that of an index of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerIndex
}

func isSchema1(mediaType string) bool {
	return mediaType == dockerSchema1 || mediaType == dockerSchema1Sign
}

func isConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerConfig
}
