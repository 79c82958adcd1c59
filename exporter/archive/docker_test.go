package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
)

// entry is a file, or with link set a symbolic link, of an archive.
type entry struct {
	name, link string
	data       []byte
}

func makeTar(t *testing.T, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.data)), Mode: 0o644}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestOpenOldDockerArchive reads the form that docker wrote before version 25:
// layers in directories, and links for those that occur twice.
func TestOpenOldDockerArchive(t *testing.T) {
	first, second := cachetest.Tar(t, "a", []byte("a")), cachetest.Tar(t, "b", []byte("b"))
	memory := cachetest.NewMemory() // its layers are compressed
	packed, err := exporter.ReadImage(t.Context(), memory, cachetest.Image(t, memory, amd64, 1, 1, 100), amd64)
	if err != nil {
		t.Fatal(err)
	}
	compressed := packed.Layers[0]
	data := bytes.Buffer{}
	r, err := memory.Open(t.Context(), *compressed.Blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{
		digest.FromBytes(first), digest.FromBytes(second), digest.FromBytes(first), compressed.DiffID,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal([]dockerImage{{
		Config:   "abc.json",
		RepoTags: []string{"app:1", "app:2"},
		Layers:   []string{"one/layer.tar", "two/layer.tar", "three/layer.tar", "./four/layer.tar"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, save(t, "old.tar", makeTar(t, []entry{
		{name: "abc.json", data: config},
		{name: "one/layer.tar", data: first},
		{name: "two/layer.tar", data: second},
		{name: "three/layer.tar", link: "../one/layer.tar"},
		{name: "four/layer.tar", data: data.Bytes()},
		{name: "repositories", data: []byte("{}")},
		{name: "manifest.json", data: list},
	})))

	if diff := cmp.Diff([]string{"app:1", "app:2"}, a.Images()[0].Names); diff != "" {
		t.Error(diff)
	}
	root, err := a.Resolve(t.Context(), "app:2")
	if err != nil {
		t.Fatal(err)
	}
	dst := cachetest.NewMemory()
	if err := exporter.Copy(t.Context(), dst, a, root, exporter.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := exporter.ReadImage(t.Context(), dst, root, amd64)
	if err != nil {
		t.Fatal(err)
	}
	if img.ConfigDesc.Digest != digest.FromBytes(config) {
		t.Errorf("the image's ID changed: %s", img.ConfigDesc.Digest)
	}
	var got []string
	for _, l := range img.Layers {
		got = append(got, l.Blob.MediaType+" "+l.Blob.Digest.String())
	}
	plain := ocispec.MediaTypeImageLayer + " "
	want := []string{
		plain + digest.FromBytes(first).String(),
		plain + digest.FromBytes(second).String(),
		plain + digest.FromBytes(first).String(),
		ocispec.MediaTypeImageLayerGzip + " " + compressed.Blob.Digest.String(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
