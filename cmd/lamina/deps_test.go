package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers says who may import whom. It is a statement of policy, not a record of
// how things are: do not change it to fix a build. A package that is missing
// from it fails the test. Test code may import more.
var layers = map[string][]string{
	// What things are.
	"cache":    nil,
	"snapshot": nil,

	// Keeping them.
	"cache/cachetest":             {"cache"},
	"cache/registry":              {"cache"},
	"cache/mounts":                {"cache"},
	"cache/registry/registrytest": nil,
	"snapshot/layer":              {"snapshot"},
	"snapshot/layertar":           {"snapshot", "snapshot/layer"},
	"snapshot/mount":              {"snapshot"},
	"snapshot/fileset":            {"snapshot", "snapshot/layer", "snapshot/layertar"},
	"snapshot/overlay":            {"snapshot", "snapshot/layer", "snapshot/mount"},
	"snapshot/native":             {"snapshot", "snapshot/layer", "snapshot/mount"},
	"snapshot/snapshottest":       {"snapshot", "snapshot/layer", "snapshot/layertar", "snapshot/mount"},

	// Computing, running, moving them.
	"solver":           {"cache", "snapshot"},
	"runner":           {"snapshot", "snapshot/mount"},
	"exporter":         {"cache", "snapshot", "snapshot/layer", "snapshot/layertar"},
	"exporter/archive": {"cache", "exporter", "snapshot/layertar"}, // Decompress
	"exporter/dir":     {"snapshot", "snapshot/layertar"},

	// From a Dockerfile to what this machine does.
	"frontend":     {"snapshot", "solver"},
	"solver/local": {"cache", "cache/mounts", "runner", "snapshot", "snapshot/fileset", "snapshot/layer", "snapshot/layertar", "solver", "solver/local/gitsource"},

	"solver/travel":          {"cache", "cache/mounts", "exporter", "exporter/archive", "snapshot", "snapshot/fileset", "snapshot/layer", "solver"},
	"solver/local/gitsource": {"solver"},

	// The command line, which wires everything.
	"cmd/lamina":                     {"*"},
	"cmd/lamina/internal/build":      {"*"},
	"cmd/lamina/internal/builds":     {"cache", "cache/registry", "cmd/lamina/internal/human", "cmd/lamina/internal/progress", "solver"},
	"cmd/lamina/internal/cachecmd":   {"cache/mounts", "cmd/lamina/internal/cli", "cmd/lamina/internal/human", "snapshot/layertar"},
	"cmd/lamina/internal/cli":        {"*"},
	"cmd/lamina/internal/collect":    {"*"},
	"cmd/lamina/internal/engine":     {"*"},
	"cmd/lamina/internal/explain":    {"cache", "cmd/lamina/internal/builds", "cmd/lamina/internal/collect", "cmd/lamina/internal/human", "snapshot/fileset", "solver", "solver/local"},
	"cmd/lamina/internal/fsck":       {"*"},
	"cmd/lamina/internal/human":      nil,
	"cmd/lamina/internal/intake":     {"cmd/lamina/internal/human", "snapshot", "snapshot/fileset", "solver"},
	"cmd/lamina/internal/policy":     nil,
	"cmd/lamina/internal/provenance": nil,
	"cmd/lamina/internal/progress":   {"cmd/lamina/internal/human"},
	"cmd/lamina/internal/sbom":       {"snapshot"},
	"cmd/lamina/internal/sshagent":   nil,
}

// confined says which packages may import a module: what it does is nobody
// else's business.
var confined = map[string][]string{
	"github.com/google/go-containerregistry": {"cache/registry", "cache/registry/registrytest"},
	"github.com/opencontainers/runc":         {"runner"},
	"github.com/moby/buildkit":               {"frontend"},
	"github.com/spf13":                       {"cmd/lamina", "cmd/lamina/internal/build", "cmd/lamina/internal/cachecmd", "cmd/lamina/internal/cli"},
	"golang.org/x/crypto/ssh":                {"cmd/lamina/internal/sshagent"},
	"net/http":                               {"cache/registry", "cache/registry/registrytest", "solver/local"},
}

func TestLayers(t *testing.T) {
	const module = "lamina/"
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		allowed, known := layers[name]
		if !known {
			t.Errorf("package %s is in no layer: add it to the table, where it belongs", name)
			continue
		}
		for _, imported := range fields[1:] {
			ours, isOurs := strings.CutPrefix(imported, module)
			if isOurs && !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
				t.Errorf("%s must not import %s", name, ours)
			}
			for path, who := range confined {
				if (imported == path || strings.HasPrefix(imported, path+"/")) && !slices.Contains(who, name) {
					t.Errorf("%s must not import %s: only %s may", name, imported, strings.Join(who, " and "))
				}
			}
		}
	}
}
