// Package provenance says how an image was made: what was asked for, and what went
// into it (SLSA, "Provenance", version 1.1). The fields are used as BuildKit uses
// them, so that what reads its provenance reads this.
package provenance

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// PredicateType is what an attestation of a [Predicate] is called.
const PredicateType = "https://slsa.dev/provenance/v1"

// buildType is the URI that defines the fields of externalParameters.
const buildType = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"

// Build is what is known of a build of one image.
type Build struct {
	// Source is where the context came from, if that was not this machine.
	Source Material
	// File is the name of the Dockerfile, and Text its content.
	File string
	Text []byte
	// Args are the build's parameters: "target", "build-arg:NAME", "label:KEY".
	Args map[string]string
	// Locals are the names of the local directories that were read.
	Locals []string
	// Secrets and SSH are the identifiers of those that were offered.
	Secrets, SSH []string
	// Materials are images, files and repositories that were fetched.
	Materials []Material
	// Steps are what was done, each after those that it reads.
	Steps []Step
	// Platform is the one of the machine that built.
	Platform string
	// Builder is a URI that stands for who built; Version is of lamina.
	Builder, Version string
	// Started and Finished frame the build; nil where it is to be the same twice.
	Started, Finished *time.Time
}

// Material is something that was fetched.
type Material struct {
	URI    string
	Digest map[string]string // by algorithm; nil if it is not known
}

// Step is one operation.
type Step struct {
	ID     string          `json:"id"`
	Name   string          `json:"name,omitempty"`
	Line   int             `json:"line,omitempty"` // of the Dockerfile
	Kind   string          `json:"kind"`
	Op     json.RawMessage `json:"op,omitempty"`
	Inputs []string        `json:"inputs,omitempty"`
}

// Digest is the digest of a [Material].
func Digest(d digest.Digest) map[string]string {
	if d == "" {
		return nil
	}
	return map[string]string{d.Algorithm().String(): d.Encoded()}
}

// ImageURI is the package URL of an image (package-url, "docker"): name is as
// docker shows it, without tag and digest.
func ImageURI(name, tag string, d digest.Digest, platform string) string {
	var elements []string
	for e := range strings.SplitSeq(name, "/") {
		elements = append(elements, url.PathEscape(e))
	}
	uri := "pkg:docker/" + strings.Join(elements, "/")
	if tag != "" {
		uri += "@" + url.PathEscape(tag)
	}
	var qualifiers []string
	if d != "" {
		qualifiers = append(qualifiers, "digest="+url.QueryEscape(d.String()))
	}
	if platform != "" {
		qualifiers = append(qualifiers, "platform="+url.QueryEscape(platform))
	}
	if len(qualifiers) > 0 {
		uri += "?" + strings.Join(qualifiers, "&")
	}
	return uri
}

// Predicate returns what is to be stated, as JSON. In full it has everything; else
// it leaves out what may be private: the values of build arguments and labels, the
// names of secrets, the Dockerfile and the steps.
func Predicate(b Build, full bool) ([]byte, error) {
	return json.Marshal(predicate{
		BuildDefinition: definition{
			BuildType:            buildType,
			ExternalParameters:   b.external(full),
			InternalParameters:   b.internal(full),
			ResolvedDependencies: b.dependencies(),
		},
		RunDetails: b.run(full),
	})
}

func (b Build) external(full bool) external {
	e := external{
		ConfigSource: source{URI: b.Source.URI, Digest: b.Source.Digest, Path: b.File},
		Request:      request{Frontend: "dockerfile.v0", Args: maps.Clone(b.Args)},
	}
	for _, name := range b.Locals {
		e.Request.Locals = append(e.Request.Locals, named{Name: name})
	}
	if !full {
		maps.DeleteFunc(e.Request.Args, func(key, _ string) bool { return isPrivate(key) })
		return e
	}
	for _, id := range b.Secrets {
		e.Request.Secrets = append(e.Request.Secrets, named{ID: id})
	}
	for _, id := range b.SSH {
		e.Request.SSH = append(e.Request.SSH, named{ID: id})
	}
	return e
}

func isPrivate(key string) bool {
	return strings.HasPrefix(key, "build-arg:") || strings.HasPrefix(key, "label:")
}

func (b Build) internal(full bool) internal {
	i := internal{BuilderPlatform: b.Platform}
	if full && len(b.Steps) > 0 {
		i.BuildConfig = &config{b.Steps}
	}
	return i
}

func (b Build) dependencies() []dependency {
	all := []dependency{}
	for _, m := range b.Materials {
		all = append(all, dependency(m))
	}
	slices.SortFunc(all, func(x, y dependency) int { return strings.Compare(x.URI, y.URI) })
	return slices.CompactFunc(all, func(x, y dependency) bool { return x.URI == y.URI })
}

func (b Build) run(full bool) run {
	r := run{Builder: builder{ID: b.Builder}}
	if b.Version != "" {
		r.Builder.Version = map[string]string{"lamina": b.Version}
	}
	r.Metadata.StartedOn, r.Metadata.FinishedOn = b.Started, b.Finished
	r.Metadata.Completeness.Request = full || !slices.ContainsFunc(slices.Collect(maps.Keys(b.Args)), isPrivate)
	// What a step fetches by itself, and what a local directory holds, is not listed.
	r.Metadata.Completeness.ResolvedDependencies = false
	if full {
		r.Metadata.BuildKit = &buildkit{Source: sources{Infos: []info{{Filename: b.File, Language: "Dockerfile", Data: b.Text}}}}
	}
	return r
}
