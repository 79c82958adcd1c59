package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestApply(t *testing.T) {
	const alpine = "docker-image://docker.io/library/alpine:latest"
	tests := []struct {
		name, rules string
		source      Source
		want        Source
		denied      string
	}{
		{"no rules", ``, Source{Identifier: alpine}, Source{Identifier: alpine}, ""},
		{"another source",
			`{"action": "DENY", "selector": {"identifier": "docker-image://docker.io/library/debian:12"}}`,
			Source{Identifier: alpine}, Source{Identifier: alpine}, ""},
		{"denied",
			`{"action": "DENY", "selector": {"identifier": "docker-image://docker.io/library/alpine:latest"}}`,
			Source{Identifier: alpine}, Source{}, alpine},
		{"the last of deny and allow counts",
			`{"action": "DENY", "selector": {"identifier": "docker-image://*"}},
			 {"action": "ALLOW", "selector": {"identifier": "docker-image://docker.io/library/*"}}`,
			Source{Identifier: alpine}, Source{Identifier: alpine}, ""},
		{"the last of allow and deny counts",
			`{"action": "ALLOW", "selector": {"identifier": "docker-image://docker.io/library/*"}},
			 {"action": "DENY", "selector": {"identifier": "docker-image://*"}}`,
			Source{Identifier: alpine}, Source{}, alpine},
		{"by number",
			`{"action": 1, "selector": {"identifier": "docker-image://*", "matchType": 0}}`,
			Source{Identifier: alpine}, Source{}, alpine},
		{"a star is no star if exact",
			`{"action": "DENY", "selector": {"identifier": "docker-image://*", "matchType": "EXACT"}}`,
			Source{Identifier: alpine}, Source{Identifier: alpine}, ""},
		{"a wildcard's match",
			`{"action": "CONVERT", "selector": {"identifier": "docker-image://docker.io/library/*:*"},
			  "updates": {"identifier": "docker-image://mirror.example/${1}:${2}-slim"}}`,
			Source{Identifier: alpine}, Source{Identifier: "docker-image://mirror.example/alpine:latest-slim"}, ""},
		{"an expression's match",
			`{"action": "CONVERT", "selector": {"identifier": "docker\\.io/library/(.*)", "matchType": "REGEX"},
			  "updates": {"identifier": "mirror.example/$1"}}`,
			Source{Identifier: alpine}, Source{Identifier: "docker-image://mirror.example/alpine:latest"}, ""},
		{"converted again, then denied",
			`{"action": "CONVERT", "selector": {"identifier": "docker-image://docker.io/library/alpine:latest"},
			  "updates": {"identifier": "docker-image://b"}},
			 {"action": "CONVERT", "selector": {"identifier": "docker-image://b"}, "updates": {"identifier": "docker-image://c"}},
			 {"action": "DENY", "selector": {"identifier": "docker-image://c"}}`,
			Source{Identifier: alpine}, Source{}, "docker-image://c"},
		{"attributes",
			`{"action": "CONVERT", "selector": {"identifier": "https://example.com/*"}, "updates": {"attrs": {"http.checksum": "sha256:1"}}}`,
			Source{Identifier: "https://example.com/file"},
			Source{"https://example.com/file", map[string]string{"http.checksum": "sha256:1"}}, ""},
		{"constraints",
			`{"action": "DENY", "selector": {"identifier": "https://*", "constraints": [
			   {"key": "http.checksum", "value": "", "condition": "EQUAL"}]}},
			 {"action": "DENY", "selector": {"identifier": "https://*", "constraints": [
			   {"key": "http.checksum", "value": "^md5", "condition": "MATCHES"}]}},
			 {"action": "DENY", "selector": {"identifier": "https://b*", "constraints": [
			   {"key": "http.checksum", "value": "sha256:1", "condition": "NOTEQUAL"}]}}`,
			Source{"https://a", map[string]string{"http.checksum": "sha256:2"}},
			Source{"https://a", map[string]string{"http.checksum": "sha256:2"}}, ""},
		{"a constraint that is not met",
			`{"action": "DENY", "selector": {"identifier": "https://*", "constraints": [{"key": "http.checksum", "value": ""}]}}`,
			Source{Identifier: "https://a"}, Source{}, "https://a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Parse([]byte(`{"rules": [` + test.rules + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Apply(test.source)
			var denied *DeniedError
			switch {
			case test.denied != "":
				if !errors.As(err, &denied) || denied.Source != test.denied {
					t.Errorf("got %v, %v; want %s denied", got, err, test.denied)
				}
			case err != nil:
				t.Error(err)
			default:
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestApplyLeavesItsArgument: attributes belong to the caller.
func TestApplyLeavesItsArgument(t *testing.T) {
	p, err := Parse([]byte(`{"rules": [{"action": "CONVERT", "selector": {"identifier": "a"}, "updates": {"attrs": {"k": "new"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := Source{"a", map[string]string{"k": "old"}}
	if _, err := p.Apply(s); err != nil || s.Attrs["k"] != "old" {
		t.Errorf("Apply changed its argument to %v (%v)", s, err)
	}
}

func TestApplyEnds(t *testing.T) {
	p, err := Parse([]byte(`{"rules": [
		{"action": "CONVERT", "selector": {"identifier": "a"}, "updates": {"identifier": "b"}},
		{"action": "CONVERT", "selector": {"identifier": "b"}, "updates": {"identifier": "a"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(Source{Identifier: "a"}); err == nil || !strings.Contains(err.Error(), "more than 20 times") {
		t.Errorf("got %v, want an error that says that rules undo each other", err)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{``, "not a source policy: EOF"},
		{`[]`, "not a source policy: json: cannot unmarshal array"},
		{`{} {}`, "not a source policy: something follows its end"},
		{`{"version": 2}`, "version 2, and 1 is the newest"},
		{`{"rule": []}`, `unknown field "rule"`},
		{`{"rules": [{}]}`, "rule 1: its selector has no identifier"},
		{`{"rules": [{"action": "deny", "selector": {"identifier": "a"}}]}`, `rule 1: action "deny": want ALLOW, DENY, CONVERT`},
		{`{"rules": [{"action": 7, "selector": {"identifier": "a"}}]}`, `rule 1: action 7: want ALLOW, DENY, CONVERT`},
		{`{"rules": [{"action": "CONVERT", "selector": {"identifier": "a"}}]}`, "rule 1: a CONVERT needs updates"},
		{`{"rules": [{"selector": {"identifier": "a**"}}]}`, "one * matches anything already"},
		{`{"rules": [{"selector": {"identifier": "(", "matchType": "REGEX"}}]}`, "rule 1: identifier: error parsing regexp"},
		{`{"rules": [{"selector": {"identifier": "a", "constraints": [{"key": "k", "value": "(", "condition": "MATCHES"}]}}]}`,
			"rule 1: constraint on k: error parsing regexp"},
	}
	for _, test := range tests {
		if _, err := Parse([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", test.text, err, test.want)
		}
	}
}
