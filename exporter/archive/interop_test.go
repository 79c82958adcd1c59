package archive

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
)

// tool returns a runner of a program that may not be installed.
func tool(t *testing.T, name string) func(args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

// files writes one image in all forms, by the transport that skopeo calls it.
func files(t *testing.T) (map[string]string, ocispec.Descriptor) {
	t.Helper()
	b := cachetest.NewMemory()
	root := cachetest.Image(t, b, amd64, 1, 3, 5000)
	images := []Image{{Root: root, Names: []string{"docker.io/library/app:1"}}}
	layout := filepath.Join(t.TempDir(), "layout")
	if err := WriteLayout(t.Context(), layout, b, images, exporter.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	oci := save(t, "oci.tar", write(t, b, images, Options{}))
	docker := save(t, "docker.tar", write(t, b, images, Options{Docker: true}))
	return map[string]string{
		"oci:" + layout + ":1":                                  layout,
		"oci-archive:" + oci + ":1":                             oci,
		"oci-archive:" + docker + ":1":                          docker,
		"docker-archive:" + docker:                              docker,
		"docker-archive:" + docker + ":docker.io/library/app:1": docker,
	}, root
}

func TestSkopeoReadsWhatWeWrite(t *testing.T) {
	skopeo := tool(t, "skopeo")
	sources, root := files(t)
	for source := range sources {
		out := filepath.Join(t.TempDir(), "out")
		skopeo("copy", "--insecure-policy", "--preserve-digests=false", source, "oci:"+out+":x")
		a := open(t, out)
		got, err := a.Resolve(t.Context(), "x")
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if strings.HasPrefix(source, "oci") && got.Digest != root.Digest {
			t.Errorf("%s: the manifest is %s, want %s", source, got.Digest, root.Digest)
		}
		img, err := exporter.ReadImage(t.Context(), a, got, amd64)
		if err != nil || len(img.Layers) != 3 || img.Config.Config.Cmd[0] != "/bin/sh" {
			t.Errorf("%s: %+v, %v", source, img, err)
		}
	}
}

func TestWeReadWhatSkopeoWrites(t *testing.T) {
	skopeo := tool(t, "skopeo")
	sources, root := files(t)
	var layout string
	for source := range sources {
		if strings.HasPrefix(source, "oci:") {
			layout = source
		}
	}
	for transport, suffix := range map[string]string{"docker-archive:": ":app:2", "oci-archive:": ":app:2", "oci:": ":app:2"} {
		out := filepath.Join(t.TempDir(), "out")
		skopeo("copy", "--insecure-policy", layout, transport+out+suffix)
		a := open(t, out)
		got, err := a.Resolve(t.Context(), "app:2")
		if err != nil {
			t.Errorf("%s: %v", transport, err)
			continue
		}
		dst := cachetest.NewMemory()
		if err := exporter.Copy(t.Context(), dst, a, got, exporter.CopyOptions{}); err != nil {
			t.Errorf("%s: %v", transport, err)
		}
		img, err := exporter.ReadImage(t.Context(), dst, got, amd64)
		if err != nil || len(img.Layers) != 3 {
			t.Errorf("%s: %+v, %v", transport, img, err)
		}
		if strings.HasPrefix(transport, "oci") && got.Digest != root.Digest {
			t.Errorf("%s: the manifest is %s, want %s", transport, got.Digest, root.Digest)
		}
	}
}

func TestUmociReadsLayout(t *testing.T) {
	umoci := tool(t, "umoci")
	sources, _ := files(t)
	for source, file := range sources {
		if !strings.HasPrefix(source, "oci:") {
			continue
		}
		if out := umoci("stat", "--image", file+":1"); strings.Count(out, "COPY file-") != 3 {
			t.Errorf("umoci stat:\n%s", out)
		}
		bundle := filepath.Join(t.TempDir(), "bundle")
		umoci("unpack", "--rootless", "--image", file+":1", bundle)
		found, err := filepath.Glob(filepath.Join(bundle, "rootfs", "file-*"))
		if err != nil || len(found) != 3 {
			t.Errorf("umoci unpacked %v, %v", found, err)
		}
	}
}

func TestPodmanLoadsDockerArchive(t *testing.T) {
	podman := tool(t, "podman")
	sources, _ := files(t)
	dir, err := os.MkdirTemp("", "podman-") // podman refuses the long names of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func(args ...string) string {
		return podman(append([]string{
			"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs",
		}, args...)...)
	}
	for source, file := range sources {
		if strings.HasPrefix(source, "docker-archive:") {
			run("load", "--input", file)
		}
	}
	if out := run("images", "--format", "{{.Repository}}:{{.Tag}}"); !strings.HasSuffix(strings.TrimSpace(out), "/app:1") {
		t.Errorf("podman has %q", out)
	}
}
