package exporter

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Attestation is a statement about an image, of which only who reads it knows the
// meaning (in-toto Attestation Framework, "Statement").
type Attestation struct {
	// PredicateType is the URI of what kind of statement it is.
	PredicateType string
	// Predicate is what is stated, as JSON.
	Predicate json.RawMessage
	// Subjects are the names of the image that it is about, as package URLs.
	Subjects []string
}

// The names by which docker's tools know attestations (BuildKit,
// docs/attestations/attestation-storage.md).
const (
	inTotoStatement         = "https://in-toto.io/Statement/v1"
	inTotoMediaType         = "application/vnd.in-toto+json"
	inTotoPredicateType     = "in-toto.io/predicate-type"
	attestationArtifact     = "application/vnd.docker.attestation.manifest.v1+json"
	attestationManifest     = "attestation-manifest"
	attestationTypeKey      = "vnd.docker.reference.type"
	attestationReferenceKey = "vnd.docker.reference.digest"
)

// statement is an in-toto statement, version 1.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// attest writes the attestations of the image about as a manifest of their own, and
// returns how an index refers to it.
func (p *packer) attest(ctx context.Context, about ocispec.Descriptor, all []Attestation) (ocispec.Descriptor, error) {
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
	}
	for _, a := range all {
		d, err := p.statement(ctx, about, a)
		if err != nil {
			return d, fmt.Errorf("pack attestation: %w", err)
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	if err := p.attestationForm(ctx, &manifest, about); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pack attestation: %w", err)
	}
	d, err := p.putDocument(ctx, manifest.MediaType, manifest)
	d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{
		attestationTypeKey:      attestationManifest,
		attestationReferenceKey: about.Digest.String(),
	}
	return d, err
}

func (p *packer) statement(ctx context.Context, about ocispec.Descriptor, a Attestation) (ocispec.Descriptor, error) {
	s := statement{Type: inTotoStatement, PredicateType: a.PredicateType, Subject: []subject{}, Predicate: a.Predicate}
	for _, name := range a.Subjects {
		s.Subject = append(s.Subject, subject{name, map[string]string{about.Digest.Algorithm().String(): about.Digest.Encoded()}})
	}
	data, err := json.Marshal(s)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := p.put(ctx, inTotoMediaType, data)
	d.Annotations = map[string]string{inTotoPredicateType: a.PredicateType}
	return d, err
}

// attestationForm completes the manifest: as an artifact with a subject, or as an
// image for no platform.
func (p *packer) attestationForm(ctx context.Context, m *ocispec.Manifest, about ocispec.Descriptor) (err error) {
	if !p.opt.ImageAttestations {
		m.ArtifactType = attestationArtifact
		m.Subject = &ocispec.Descriptor{MediaType: about.MediaType, Digest: about.Digest, Size: about.Size}
		m.Config = ocispec.DescriptorEmptyJSON
		_, err = p.put(ctx, m.Config.MediaType, m.Config.Data)
		return err
	}
	config := ocispec.Image{
		Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}
	for _, l := range m.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest) // they are not compressed
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	m.Config, err = p.put(ctx, ocispec.MediaTypeImageConfig, data)
	return err
}
