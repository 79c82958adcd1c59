package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot/layertar"
)

// A refImage is an image as it is compared: its configuration, and the history
// and layers that it has above its base.
type refImage struct {
	config  dockerspec.DockerOCIImage
	history []ocispec.History
	layers  [][]refFile
	listed  string // the platform that the index gives it
}

// A refFile is a member of a layer.
type refFile struct {
	hdr     *tar.Header
	content []byte
}

// refImages are the images of an archive, one for each platform.
type refImages []*refImage

// String describes the images in the order of their index.
func (all refImages) String() string {
	var b strings.Builder
	for i, img := range all {
		if len(all) > 1 {
			fmt.Fprintf(&b, "image %d\n", i)
		}
		b.WriteString(img.String())
		if i < len(all)-1 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// refBlobs are the members of an OCI archive by name.
type refBlobs map[string][]byte

func (b refBlobs) get(d digest.Digest) []byte {
	return b["blobs/"+d.Algorithm().String()+"/"+d.Encoded()]
}

// readRefImage reads the images in the OCI archive r. What they have from one of
// bases is left out.
func readRefImage(r io.Reader, bases []dockerspec.DockerOCIImage) (refImages, error) {
	blobs := refBlobs{}
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if blobs[hdr.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
	var index ocispec.Index
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%d manifests", len(index.Manifests))
	}
	manifests := index.Manifests
	if root := manifests[0]; root.MediaType == ocispec.MediaTypeImageIndex {
		var platforms ocispec.Index
		if err := json.Unmarshal(blobs.get(root.Digest), &platforms); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		manifests = platforms.Manifests
	}
	var all refImages
	for _, m := range manifests {
		img, err := blobs.image(m, bases)
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return all, nil
}

// image reads the image of one manifest.
func (b refBlobs) image(desc ocispec.Descriptor, bases []dockerspec.DockerOCIImage) (*refImage, error) {
	var manifest ocispec.Manifest
	if err := json.Unmarshal(b.get(desc.Digest), &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	img := &refImage{}
	if err := json.Unmarshal(b.get(manifest.Config.Digest), &img.config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if n := len(img.config.RootFS.DiffIDs); n != len(manifest.Layers) {
		return nil, fmt.Errorf("%d diff IDs of %d layers", n, len(manifest.Layers))
	}
	img.history = img.config.History
	for _, base := range bases {
		n := len(base.RootFS.DiffIDs)
		if n > 0 && n <= len(manifest.Layers) && slices.Equal(base.RootFS.DiffIDs, img.config.RootFS.DiffIDs[:n]) {
			manifest.Layers, img.history = manifest.Layers[n:], img.history[len(base.History):]
			break
		}
	}
	for _, d := range manifest.Layers {
		files, err := readRefLayer(b.get(d.Digest))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		img.layers = append(img.layers, files)
	}
	if p := desc.Platform; p != nil {
		img.listed = strings.Trim(strings.Join([]string{p.OS, p.Architecture, p.Variant}, "/"), "/")
	}
	return img, nil
}

func readRefLayer(data []byte) ([]refFile, error) {
	plain, err := layertar.Decompress(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var files []refFile
	for tr := tar.NewReader(plain); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		files = append(files, refFile{hdr, content})
	}
	return files, nil
}

// String describes the image, a line for each thing that can differ. Times of this
// build are "now".
func (img *refImage) String() string {
	var b strings.Builder
	img.describeConfig(&b)
	b.WriteString("\nhistory\n")
	for _, h := range img.history {
		note := ""
		if h.EmptyLayer {
			note = "(empty) "
		}
		fmt.Fprintf(&b, "%s%q %s\n", note, h.CreatedBy, h.Comment)
	}
	for i, files := range img.layers {
		fmt.Fprintf(&b, "\nlayer %d\n", i)
		describeLayer(&b, files)
	}
	return b.String()
}

func (img *refImage) describeConfig(b *strings.Builder) {
	c := img.config
	platform := strings.Trim(strings.Join([]string{c.OS, c.Architecture, c.Variant}, "/"), "/")
	fmt.Fprintf(b, "%s\n", platform)
	if img.listed != "" && img.listed != platform {
		fmt.Fprintf(b, "listed as %s\n", img.listed)
	}
	if c.Author != "" {
		fmt.Fprintf(b, "Author %q\n", c.Author)
	}
	data, err := json.Marshal(c.Config)
	if err != nil {
		panic(err) // it came from JSON
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		panic(err)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		switch value := string(fields[key]); value {
		case `null`, `""`, `[]`, `{}`, `false`:
		default:
			fmt.Fprintf(b, "%s %s\n", key, value)
		}
	}
}

// describeLayer lists files by name. Of hard links the first by name is the file,
// whichever was first in the archive.
func describeLayer(b *strings.Builder, files []refFile) {
	byName := map[string]refFile{}
	group := map[string]string{} // name of a hard link -> the file it is of
	for _, f := range files {
		name := cleanName(f.hdr.Name)
		if f.hdr.Typeflag == tar.TypeLink {
			group[name] = cleanName(f.hdr.Linkname)
		} else if _, ok := byName[name]; ok {
			fmt.Fprintf(b, "twice: %s\n", name)
		} else {
			byName[name] = f
		}
	}
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(group)) {
		if old := group[name]; first[old] == "" {
			first[old] = min(old, name)
		}
	}
	names := append(slices.Collect(maps.Keys(byName)), slices.Collect(maps.Keys(group))...)
	slices.Sort(names)
	for _, name := range names {
		of := name
		if old, ok := group[name]; ok {
			of = old
		}
		if f := first[of]; f != "" && f != name {
			fmt.Fprintf(b, "h %s => %s\n", name, f)
			continue
		}
		f, ok := byName[of]
		if !ok {
			fmt.Fprintf(b, "h %s => %s, which is not there\n", name, of)
			continue
		}
		fmt.Fprintf(b, "%s\n", describeFile(name, f))
	}
}

func cleanName(name string) string { return strings.Trim(strings.TrimPrefix(name, "./"), "/") }

// describeFile is a line like "f 0644 0:0 now a.txt "content"".
func describeFile(name string, f refFile) string {
	h := f.hdr
	kind, rest := "?", ""
	switch h.Typeflag {
	case tar.TypeReg:
		kind, rest = "f", " "+describeContent(f.content)
	case tar.TypeDir:
		kind, name = "d", name+"/"
	case tar.TypeSymlink:
		kind, rest = "l", " -> "+h.Linkname
	case tar.TypeChar:
		kind, rest = "c", fmt.Sprintf(" %d,%d", h.Devmajor, h.Devminor)
	case tar.TypeBlock:
		kind, rest = "b", fmt.Sprintf(" %d,%d", h.Devmajor, h.Devminor)
	case tar.TypeFifo:
		kind = "p"
	}
	when := fmt.Sprint(h.ModTime.Unix())
	if time.Since(h.ModTime).Abs() < 24*time.Hour {
		when = "now"
	}
	if strings.HasPrefix(name[strings.LastIndex(name, "/")+1:], ".wh.") {
		return "w " + name // nobody looks at its attributes
	}
	line := fmt.Sprintf("%s %04o %d:%d %s %s%s", kind, h.Mode, h.Uid, h.Gid, when, name, rest)
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		// We keep attributes of users, of which docker's layers have none.
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && !strings.HasPrefix(attr, "user.") {
			line += fmt.Sprintf(" %s=%q", attr, h.PAXRecords[key])
		}
	}
	return line
}

func describeContent(data []byte) string {
	if len(data) <= 400 && utf8.Valid(data) && !bytes.ContainsRune(data, 0) {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%d bytes %.16s", len(data), digest.FromBytes(data).Encoded())
}

// refFailed is what describes a build that failed.
const refFailed = "it fails\n"
