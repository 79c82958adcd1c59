package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// checkClients shows an image in a registry, and its archive, to what other
// people wrote. crane is that program.
func checkClients(t *testing.T, l *tool, crane, image, holds string) {
	dir, err := os.MkdirTemp("/tmp", "lamina-") // podman wants a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	archive, layout := filepath.Join(dir, "docker.tar"), filepath.Join(dir, "layout")
	metadata := filepath.Join(dir, "metadata.json")
	registry, _, _ := strings.Cut(image, "/")
	l.must("build", "--build-arg", "REGISTRY="+registry, "--metadata-file", metadata, "-t", image, ".")
	l.must("build", "--build-arg", "REGISTRY="+registry, "-t", image, "-o", "type=docker,dest="+archive, ".")
	var built struct {
		Digest digest.Digest `json:"containerimage.digest"`
	}
	readJSON(t, metadata, &built)

	t.Run("skopeo", func(t *testing.T) {
		var seen struct{ Digest digest.Digest }
		if err := json.Unmarshal([]byte(client(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+image)), &seen); err != nil {
			t.Fatal(err)
		}
		if seen.Digest != built.Digest || seen.Digest == "" {
			t.Errorf("skopeo sees %s, lamina built %s", seen.Digest, built.Digest)
		}
		client(t, "skopeo", "inspect", "docker-archive:"+archive)
		client(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+image, "oci:"+layout+":latest")
	})
	t.Run("umoci", func(t *testing.T) {
		bundle := filepath.Join(dir, "bundle")
		client(t, "umoci", "unpack", "--image", layout+":latest", bundle)
		if _, err := os.Lstat(filepath.Join(bundle, "rootfs", holds)); err != nil {
			t.Error(err)
		}
	})
	t.Run("crane", func(t *testing.T) {
		client(t, crane, "validate", "--insecure", "--remote", image)
		client(t, crane, "validate", "--tarball", archive)
	})
	for _, name := range []string{"podman", "buildah"} {
		t.Run(name, func(t *testing.T) {
			storage := []string{"--root", filepath.Join(dir, name), "--runroot", filepath.Join(dir, name+"-run")}
			client(t, name, slices.Concat(storage, []string{"pull", "--tls-verify=false", image})...)
			client(t, name, slices.Concat(storage, []string{"rmi", image})...)
			client(t, name, slices.Concat(storage, []string{"pull", "docker-archive:" + archive})...)
			if got := client(t, name, slices.Concat(storage, []string{"images", "--noheading"})...); !strings.Contains(got, strings.TrimSuffix(image, ":2")) {
				t.Errorf("%s does not list %s but\n%s", name, image, got)
			}
		})
	}
}

// makeCrane builds the program crane, in the version of its libraries that lamina
// uses.
func makeCrane(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("GOBIN", dir)
	version := strings.TrimSpace(client(t, "go", "list", "-m", "-f", "{{.Version}}", "github.com/google/go-containerregistry"))
	client(t, "go", "install", "github.com/google/go-containerregistry/cmd/crane@"+version)
	return filepath.Join(dir, "crane")
}

// client executes a program of other people, which must be content, and returns
// what it prints.
func client(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	r := finish(t, exec.CommandContext(t.Context(), name, args...))
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s", name, strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}
