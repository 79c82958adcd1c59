package provenance

import "time"

// The types of this file have the form of a predicate in JSON.

type predicate struct {
	BuildDefinition definition `json:"buildDefinition"`
	RunDetails      run        `json:"runDetails"`
}

type definition struct {
	BuildType            string       `json:"buildType"`
	ExternalParameters   external     `json:"externalParameters"`
	InternalParameters   internal     `json:"internalParameters"`
	ResolvedDependencies []dependency `json:"resolvedDependencies"`
}

type external struct {
	ConfigSource source  `json:"configSource"`
	Request      request `json:"request"`
}

type source struct {
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
	Path   string            `json:"path,omitempty"`
}

type request struct {
	Frontend string            `json:"frontend"`
	Args     map[string]string `json:"args,omitempty"`
	Secrets  []named           `json:"secrets,omitempty"`
	SSH      []named           `json:"ssh,omitempty"`
	Locals   []named           `json:"locals,omitempty"`
}

type named struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

type internal struct {
	BuildConfig     *config `json:"buildConfig,omitempty"`
	BuilderPlatform string  `json:"builderPlatform"`
}

// config takes the place of BuildKit's llbDefinition: lamina has no LLB.
type config struct {
	Steps []Step `json:"steps"`
}

type dependency struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

type run struct {
	Builder  builder  `json:"builder"`
	Metadata metadata `json:"metadata"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type metadata struct {
	StartedOn    *time.Time   `json:"startedOn,omitempty"`
	FinishedOn   *time.Time   `json:"finishedOn,omitempty"`
	Completeness completeness `json:"buildkit_completeness"`
	BuildKit     *buildkit    `json:"buildkit_metadata,omitempty"`
}

type completeness struct {
	Request              bool `json:"request"`
	ResolvedDependencies bool `json:"resolvedDependencies"`
}

type buildkit struct {
	Source sources `json:"source"`
}

type sources struct {
	Infos []info `json:"infos"`
}

type info struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Data     []byte `json:"data"`
}
