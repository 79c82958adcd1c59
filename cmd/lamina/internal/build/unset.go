package build

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// removal is one --unset: something that is taken out of the image's configuration,
// whoever put it there.
type removal struct{ what, name string }

// removable are what --unset knows, and whether it needs a name.
var removable = [...]struct {
	what  string
	named bool
}{
	{"env", true}, {"label", true}, {"expose", true}, {"volume", true}, {"entrypoint", false}, {"healthcheck", false},
}

// parseUnset parses the values of --unset.
func parseUnset(flags []string) ([]removal, error) {
	var all []removal
	for _, s := range flags {
		what, name, _ := strings.Cut(s, "=")
		i := slices.IndexFunc(removable[:], func(r struct {
			what  string
			named bool
		}) bool {
			return r.what == what
		})
		switch {
		case i < 0:
			return nil, fmt.Errorf("--unset=%s: want env=NAME, label=KEY, expose=PORT, volume=PATH, entrypoint or healthcheck", s)
		case removable[i].named && name == "":
			return nil, fmt.Errorf("--unset=%s: which one? write --unset=%s=NAME", s, what)
		case !removable[i].named && name != "":
			return nil, fmt.Errorf("--unset=%s: there is but one: write --unset=%s", s, what)
		}
		if what == "expose" && !strings.Contains(name, "/") {
			name += "/tcp"
		}
		all = append(all, removal{what, name})
	}
	return all, nil
}

// apply removes it from a configuration, which shares nothing that changes with any
// other, and tells whether it was there.
func (r removal) apply(c *dockerspec.DockerOCIImageConfig) (found bool) {
	switch r.what {
	case "env":
		n := len(c.Env)
		c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(kv string) bool {
			key, _, _ := strings.Cut(kv, "=")
			return key == r.name
		})
		return len(c.Env) < n
	case "label":
		c.Labels, found = without(c.Labels, r.name)
	case "expose":
		c.ExposedPorts, found = without(c.ExposedPorts, r.name)
	case "volume":
		c.Volumes, found = without(c.Volumes, r.name)
	case "entrypoint":
		found = len(c.Entrypoint) > 0
		c.Entrypoint = nil
	case "healthcheck":
		found = c.Healthcheck != nil
		c.Healthcheck = nil
	}
	return found
}

// without is m without key, and whether m has it; nil if nothing is left.
func without[V any](m map[string]V, key string) (map[string]V, bool) {
	_, found := m[key]
	m = maps.Clone(m)
	delete(m, key)
	if len(m) == 0 {
		m = nil
	}
	return m, found
}

// unset performs all removals, and tells what was not there.
func unset(all []removal, c *dockerspec.DockerOCIImageConfig, warn func(string)) {
	for _, r := range all {
		if r.apply(c) {
			continue
		}
		if r.name == "" {
			warn(fmt.Sprintf("--unset=%s: the image has none", r.what))
		} else {
			warn(fmt.Sprintf("--unset=%s=%s: the image has no such thing", r.what, r.name))
		}
	}
}
