// Package policy decides which sources a build may use, and which others stand in
// for them: the rules of a BuildKit source policy, as JSON.
//
//	{"rules": [
//	  {"action": "CONVERT",
//	   "selector": {"identifier": "docker-image://docker.io/library/alpine:latest"},
//	   "updates":  {"identifier": "docker-image://docker.io/library/alpine:latest@sha256:4edb…"}},
//	  {"action": "DENY", "selector": {"identifier": "http://*"}}
//	]}
//
// A source is known by an identifier, "docker-image://docker.io/library/alpine:latest",
// "https://example.com/file" or "git://example.com/repository.git#main", and may
// have attributes, "http.checksum".
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
)

// Source is something that a build fetches.
type Source struct {
	Identifier string
	Attrs      map[string]string
}

// Policy is a list of rules. The zero Policy allows everything.
type Policy struct{ rules []rule }

// rule is one rule, its expressions compiled.
type rule struct {
	action      string
	identifier  string
	expression  *regexp.Regexp // nil for EXACT
	constraints []constraint
	updates     *updates
}

type constraint struct {
	key, value, condition string
	expression            *regexp.Regexp // of MATCHES
}

type updates struct {
	Identifier string            `json:"identifier"`
	Attrs      map[string]string `json:"attrs"`
}

// written is a rule as JSON has it.
type written struct {
	Action   enum `json:"action"`
	Selector struct {
		Identifier  string `json:"identifier"`
		MatchType   enum   `json:"matchType"`
		Constraints []struct {
			Key       string `json:"key"`
			Value     string `json:"value"`
			Condition enum   `json:"condition"`
		} `json:"constraints"`
	} `json:"selector"`
	Updates *updates `json:"updates"`
}

// Parse reads a policy. What it does not know is an error: a rule that is passed
// over because of a slip of the pen protects nobody.
func Parse(data []byte) (*Policy, error) {
	var file struct {
		Version int       `json:"version"`
		Rules   []written `json:"rules"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("not a source policy: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a source policy: something follows its end")
	}
	if file.Version > 1 {
		return nil, fmt.Errorf("a source policy of version %d, and 1 is the newest that is known here", file.Version)
	}
	p := &Policy{}
	for i, w := range file.Rules {
		r, err := w.compile()
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// compile checks a rule.
func (w written) compile() (r rule, err error) {
	r = rule{identifier: w.Selector.Identifier, updates: w.Updates}
	if r.identifier == "" {
		return r, errors.New("its selector has no identifier")
	}
	if r.action, err = w.Action.among("action", "ALLOW", "DENY", "CONVERT"); err != nil {
		return r, err
	}
	if r.action == "CONVERT" && w.Updates == nil {
		return r, errors.New("a CONVERT needs updates")
	}
	match, err := w.Selector.MatchType.among("matchType", "WILDCARD", "EXACT", "REGEX")
	if err != nil {
		return r, err
	}
	switch match {
	case "WILDCARD":
		if strings.Contains(r.identifier, "**") {
			return r, fmt.Errorf("identifier %q: one * matches anything already", r.identifier)
		}
		quoted := regexp.QuoteMeta(r.identifier)
		r.expression = regexp.MustCompile("^" + strings.ReplaceAll(quoted, `\*`, "(.*)") + "$")
	case "REGEX":
		if r.expression, err = regexp.Compile(r.identifier); err != nil {
			return r, fmt.Errorf("identifier: %w", err)
		}
	}
	for _, wc := range w.Selector.Constraints {
		c := constraint{key: wc.Key, value: wc.Value}
		if c.condition, err = wc.Condition.among("condition", "EQUAL", "NOTEQUAL", "MATCHES"); err != nil {
			return r, err
		}
		if c.condition == "MATCHES" {
			if c.expression, err = regexp.Compile(c.value); err != nil {
				return r, fmt.Errorf("constraint on %s: %w", c.key, err)
			}
		}
		r.constraints = append(r.constraints, c)
	}
	return r, nil
}

// enum is a word, or its number; the zero enum is the first word.
type enum struct {
	word   string
	number int
}

func (e *enum) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &e.word)
	}
	return json.Unmarshal(data, &e.number)
}

// among returns e's word of all.
func (e enum) among(field string, all ...string) (string, error) {
	for i, word := range all {
		if e.word == word || e.word == "" && e.number == i {
			return word, nil
		}
	}
	if e.word == "" {
		return "", fmt.Errorf("%s %d: want %s", field, e.number, strings.Join(all, ", "))
	}
	return "", fmt.Errorf("%s %q: want %s", field, e.word, strings.Join(all, ", "))
}

// mostConversions is how often one source may be converted.
const mostConversions = 20

// DeniedError is of a source that a policy forbids.
type DeniedError struct{ Source string }

func (e *DeniedError) Error() string { return e.Source + " is denied by the source policy" }

// Apply returns what is to be used for s: s itself, or what rules convert it to,
// by one rule after the other. Of the rules that allow or deny it the last
// counts; an error is a [DeniedError], or of rules that never come to an end.
func (p *Policy) Apply(s Source) (Source, error) {
	s.Attrs = maps.Clone(s.Attrs)
	first := s.Identifier
	for range mostConversions + 1 {
		converted, err := p.step(&s)
		if err != nil || !converted {
			return s, err
		}
	}
	return s, fmt.Errorf("the source policy converts %s more than %d times: do two rules undo each other?", first, mostConversions)
}

// step applies the rules until one converts s.
func (p *Policy) step(s *Source) (converted bool, err error) {
	denied := false
	for _, r := range p.rules {
		if !r.matches(*s) {
			continue
		}
		switch r.action {
		case "ALLOW":
			denied = false
		case "DENY":
			denied = true
		case "CONVERT":
			if r.convert(s) {
				return true, nil
			}
		}
	}
	if denied {
		return false, &DeniedError{s.Identifier}
	}
	return false, nil
}

func (r rule) matches(s Source) bool {
	for _, c := range r.constraints {
		got := s.Attrs[c.key]
		switch c.condition {
		case "EQUAL":
			if got != c.value {
				return false
			}
		case "NOTEQUAL":
			if got == c.value {
				return false
			}
		case "MATCHES":
			if !c.expression.MatchString(got) {
				return false
			}
		}
	}
	return s.Identifier == r.identifier || r.expression != nil && r.expression.MatchString(s.Identifier)
}

// convert updates s and tells whether that changed it. An identifier may refer to
// what matched: "${1}".
func (r rule) convert(s *Source) bool {
	to := r.updates.Identifier
	switch {
	case to == "":
		to = s.Identifier
	case r.expression != nil && r.expression.MatchString(s.Identifier):
		to = r.expression.ReplaceAllString(s.Identifier, to)
	}
	changed := to != s.Identifier
	s.Identifier = to
	for k, v := range r.updates.Attrs {
		if s.Attrs[k] != v {
			if s.Attrs == nil {
				s.Attrs = map[string]string{}
			}
			s.Attrs[k], changed = v, true
		}
	}
	return changed
}
