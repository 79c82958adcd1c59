package main

import (
	"strings"
	"testing"

	"lamina/cache/registry/registrytest"
)

// TestPushInsecure pushes to a registry whose certificate nobody knows, which has to
// be said.
func TestPushInsecure(t *testing.T) {
	srv := registrytest.NewTLS(t)
	l := newTool(t)
	l.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	name := srv.Host + "/app:1"
	r := l.run("build", "-o", "type=registry,name="+name, ".")
	if r.code == 0 || !strings.Contains(r.stderr, "certificate") {
		t.Errorf("pushed to an unknown certificate: %d\n%s", r.code, r.stderr)
	}
	l.must("build", "-o", "type=registry,registry.insecure=true,name="+name, ".")
}
