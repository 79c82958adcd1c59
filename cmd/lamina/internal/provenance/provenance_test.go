package provenance

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func example() Build {
	when := time.Unix(1000, 0).UTC()
	return Build{
		File: "Dockerfile", Text: []byte("FROM x\n"), Platform: "linux/amd64", Version: "1.0",
		Args:    map[string]string{"target": "t", "build-arg:TOKEN": "private", "label:a": "b"},
		Locals:  []string{"context"},
		Secrets: []string{"key"}, SSH: []string{"default"},
		Materials: []Material{
			{"pkg:docker/b@1", Digest(digest.FromString("b"))}, {"https://example.com/a", nil}, {"pkg:docker/b@1", Digest(digest.FromString("b"))},
		},
		Steps:   []Step{{ID: "step0", Kind: "run", Inputs: []string{"step1"}}},
		Started: &when, Finished: &when,
	}
}

// TestPredicate compares both forms with what is written down here, and makes sure
// that the shorter one gives nothing away.
func TestPredicate(t *testing.T) {
	full, err := Predicate(example(), true)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"buildDefinition":{"buildType":"https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",` +
		`"externalParameters":{"configSource":{"path":"Dockerfile"},"request":{"frontend":"dockerfile.v0",` +
		`"args":{"build-arg:TOKEN":"private","label:a":"b","target":"t"},"secrets":[{"id":"key"}],"ssh":[{"id":"default"}],"locals":[{"name":"context"}]}},` +
		`"internalParameters":{"buildConfig":{"steps":[{"id":"step0","kind":"run","inputs":["step1"]}]},"builderPlatform":"linux/amd64"},` +
		`"resolvedDependencies":[{"uri":"https://example.com/a"},{"uri":"pkg:docker/b@1","digest":{"sha256":"` + digest.FromString("b").Encoded() + `"}}]},` +
		`"runDetails":{"builder":{"id":"","version":{"lamina":"1.0"}},"metadata":{"startedOn":"1970-01-01T00:16:40Z","finishedOn":"1970-01-01T00:16:40Z",` +
		`"buildkit_completeness":{"request":true,"resolvedDependencies":false},` +
		`"buildkit_metadata":{"source":{"infos":[{"filename":"Dockerfile","language":"Dockerfile","data":"RlJPTSB4Cg=="}]}}}}}`
	if diff := cmp.Diff(want, string(full)); diff != "" {
		t.Error(diff)
	}
	short, err := Predicate(example(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"TOKEN", "private", "label:", "key", "ssh", "RlJPTSB4", "step0"} {
		if strings.Contains(string(short), private) {
			t.Errorf("the short form has %q: %s", private, short)
		}
	}
	var p predicate
	if err := json.Unmarshal(short, &p); err != nil || p.RunDetails.Metadata.Completeness.Request || p.BuildDefinition.ExternalParameters.Request.Args["target"] != "t" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestImageURI(t *testing.T) {
	for _, tc := range []struct{ name, tag, digest, platform, want string }{
		{"app", "1", "", "linux/arm/v7", "pkg:docker/app@1?platform=linux%2Farm%2Fv7"},
		{"x.io:5000/a/b", "", "sha256:00", "", "pkg:docker/x.io:5000/a/b?digest=sha256%3A00"},
		{"a", "", "", "", "pkg:docker/a"},
	} {
		if got := ImageURI(tc.name, tc.tag, digest.Digest(tc.digest), tc.platform); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}
