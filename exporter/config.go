package exporter

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot/layer"
)

// configJSON writes the image's configuration (OCI image-spec, config.md, with
// docker's extensions). Its members are sorted by name, as the reference has
// them, so that equal images get equal IDs whoever builds them.
func configJSON(out Output, layers []layer.Packed) ([]byte, error) {
	config := out.Config
	if config.OS == "" || config.Architecture == "" {
		return nil, errors.New("the config has no operating system or no architecture")
	}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
	}
	config.History = fitHistory(config.History, len(layers))
	if config.Created == nil {
		for _, h := range config.History {
			if h.Created != nil {
				config.Created = h.Created
			}
		}
	}
	if out.OmitHistory {
		config.History = nil
	}
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, err
	}
	maps.Copy(members, out.ConfigMembers)
	return json.Marshal(members)
}

// fitHistory returns history with exactly one entry for each layer that is not
// marked as empty: readers refuse an image in which the two disagree. Images that
// do not come from Dockerfiles may have no history at all, so what is missing is
// added in front, where the base image's layers are; what is too much at the end
// is marked as empty.
func fitHistory(history []ocispec.History, layers int) []ocispec.History {
	claimed := 0
	var fit []ocispec.History
	for _, h := range history {
		if !h.EmptyLayer {
			claimed++
			h.EmptyLayer = claimed > layers
		}
		fit = append(fit, h)
	}
	var missing []ocispec.History
	for ; claimed < layers; claimed++ {
		h := ocispec.History{Comment: "a layer without a history"}
		if len(fit) > 0 {
			h.Created = fit[0].Created // no later than what was built on it
		}
		missing = append(missing, h)
	}
	return append(missing, fit...)
}

// isStoreAnnotation tells whether a layer's annotation is a note that some store
// wrote for itself.
func isStoreAnnotation(key string) bool {
	return key == "containerd.io/uncompressed" || key == "buildkit/createdat" ||
		strings.HasPrefix(key, "containerd.io/distribution.source.")
}
