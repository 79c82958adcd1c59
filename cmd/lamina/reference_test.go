package main

import (
	"cmp"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"lamina/runner"
	"lamina/snapshot/overlay"
)

// TestReference builds the cases of testdata/reference, which BuildKit has built
// too, and compares: files, configuration, history and number of layers, or that
// the build fails. Times count as "now" or to the second; the name of the host
// inside a RUN is ours. Those in more/, which show the same in other ways, are
// built if LAMINA_REFERENCE=all.
func TestReference(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners and devices in contexts need root")
	}
	_, err := os.Stat(busybox)
	if err := cmp.Or(err, overlay.Supported(t.TempDir()), runner.Supported()); err != nil {
		t.Skip(err)
	}
	r := reference{store: t.TempDir()}
	for _, name := range []string{"base", "full", "rich", "onbuild", "links"} {
		r.base(t, name)
	}
	files, err := filepath.Glob("../../testdata/reference/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	if os.Getenv("LAMINA_REFERENCE") == "all" {
		more, _ := filepath.Glob("../../testdata/reference/more/*.txtar")
		files = append(files, more...)
	}
	for _, file := range files {
		c := mustReadRefCase(t, file)
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := c.section("want")
			if ours := c.section("lamina"); ours != "" {
				want = ours
			}
			if diff := gocmp.Diff(want, r.result(t, c)); diff != "" {
				t.Errorf("%s(-want +got):\n%s", c.archive.Comment, diff)
			}
		})
	}
}

// reference is where cases are built.
type reference struct {
	store string
	bases []dockerspec.DockerOCIImage // those upon others first
}

// build builds c with more flags, and returns what lamina says.
func (r *reference) build(t *testing.T, c *refCase, server string, more ...string) ([]byte, error) {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "Dockerfile")
	if err := c.write(dir, file, server); err != nil {
		t.Fatal(err)
	}
	flags, err := c.flags(dir, file, server)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"build", "--progress=plain", "--no-cache"}, more...)
	cmd := exec.Command("lamina", append(args, flags...)...)
	cmd.Env = append(os.Environ(), "LAMINA_ROOT="+r.store, "TOKEN=secret") // see serve
	return cmd.CombinedOutput()
}

// base makes a base image, which the cases find by its name.
func (r *reference) base(t *testing.T, name string) {
	t.Helper()
	c := mustReadRefCase(t, "../../testdata/reference/bases/"+name+".txtar")
	archive := filepath.Join(t.TempDir(), "base.tar")
	if out, err := r.build(t, c, "", "-t", name, "-o", "type=image", "-o", "type=oci,dest="+archive); err != nil {
		t.Fatalf("base %s: %v\n%s", name, err, out)
	}
	r.bases = append([]dockerspec.DockerOCIImage{readRefArchive(t, archive, nil)[0].config}, r.bases...)
}

// result describes what c is built to.
func (r *reference) result(t *testing.T, c *refCase) string {
	server := serveRefCase(t, c)
	archive := filepath.Join(t.TempDir(), "image.tar")
	if out, err := r.build(t, c, server, "-o", "type=oci,dest="+archive); err != nil {
		t.Logf("%s", out)
		return refFailed
	}
	return strings.NewReplacer(server, "$HTTP", strings.TrimPrefix(server, "http://"), "$HOST").Replace(readRefArchive(t, archive, r.bases).String())
}

// serveRefCase starts the server of c and returns its URL. It skips the test if c
// needs git and there is none.
func serveRefCase(t *testing.T, c *refCase) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	handler, err := c.serve(t.TempDir(), url)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = handler
	server.Start()
	t.Cleanup(server.Close)
	return url
}

func readRefArchive(t *testing.T, file string, bases []dockerspec.DockerOCIImage) refImages {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := readRefImage(f, bases)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustReadRefCase(t *testing.T, file string) *refCase {
	t.Helper()
	c, err := readRefCase(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
