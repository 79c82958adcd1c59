package build

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter"
	"lamina/exporter/archive"
	"lamina/snapshot"
)

// made is an image that a build made, of one target.
type made struct {
	target string // as the command line calls it
	root   ocispec.Descriptor
	id     digest.Digest
	names  []imageName
	more   map[string]json.RawMessage // for --metadata-file
}

// exportImages packs the images of all targets and puts them where out says.
func (b *build) exportImages(ctx context.Context, found results, out output) (images []made, err error) {
	what := map[string]string{"image": "image", "oci": "oci image format", "docker": "docker image format"}[out.kind]
	st := b.display.Transfers("exporting to " + what)
	defer func() { st.End(err) }()
	for i := range b.wanted() {
		m, err := b.make(ctx, found, out, i, st)
		if err != nil {
			return nil, err
		}
		images = append(images, m)
	}
	if out.kind != "image" {
		return images, b.exportArchive(ctx, out, images)
	}
	if !out.unstored {
		for _, m := range images {
			if err := b.keep(ctx, out, m); err != nil {
				return nil, err
			}
		}
	}
	st.End(nil)
	if !out.push {
		return images, nil
	}
	return images, b.pushAll(ctx, out, images)
}

// make packs the image of target number i, and says what it is called.
func (b *build) make(ctx context.Context, found results, out output, i int, st *cli.Step) (m made, err error) {
	m = made{target: b.wanted()[i], more: map[string]json.RawMessage{}}
	m.names = namesOf(out.names, m.target)
	if m.root, err = b.pack(ctx, found, out, i, &m, st); err != nil {
		return m, err
	}
	if m.id, err = b.imageID(ctx, m.root); err != nil {
		return m, err
	}
	if out.byDigest {
		for j := range m.names {
			m.names[j].Tag = ""
		}
	}
	if out.prefix != nil && (len(m.names) == 0 || !out.prefixAlone) {
		n := *out.prefix
		n.Tag, n.Digest = "", m.root.Digest
		m.names = append(m.names, imageName{Name: n, given: n.Familiar()})
	}
	st.Say("exporting manifest " + m.root.Digest.String())
	if m.id != m.root.Digest {
		st.Say("exporting config " + m.id.String())
	}
	for _, n := range m.names {
		st.Say("naming to " + n.String())
	}
	return m, nil
}

// pack writes the image m of target number i, or the index of its images.
func (b *build) pack(ctx context.Context, found results, out output, i int, m *made, st *cli.Step) (ocispec.Descriptor, error) {
	opt := b.packing(out)
	opt.Index = b.indexed()
	epoch := b.epochOf(out)
	opt.Progress = func(id snapshot.ID, done int64) { st.Bytes("packing layer "+string(id[:min(12, len(id))]), done, 0) }
	var images []exporter.Output
	for _, t := range b.platformsOf(i) {
		img := b.image(t, found, epoch)
		err := b.carryCache(t, &img)
		switch {
		case err != nil:
		case b.opt.squashAll:
			err = b.squash(ctx, &img, 0)
		case b.opt.squash:
			err = b.squash(ctx, &img, b.baseLayers(t.Root))
		}
		if err == nil {
			err = b.attest(ctx, &img, t, m)
		}
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		images = append(images, img)
	}
	if b.opt.createdNote {
		noteCreated(images)
	}
	annotate(out.annotations, images, &opt)
	return exporter.Pack(ctx, images, b.engine.Pool, b.engine.Blobs, opt)
}

// packing says how the layers of an output's images are packed.
func (b *build) packing(out output) exporter.PackOptions {
	opt := out.pack
	switch {
	case b.timestamp != nil:
		opt.Epoch, opt.AllTimes = b.timestamp, true
	case out.rewrite:
		opt.Epoch = b.epochOf(out)
	}
	return opt
}

// indexed tells whether an image is an index whatever it consists of.
func (b *build) indexed() bool {
	forced, _ := strconv.ParseBool(b.lowering.BuildArgs["BUILDKIT_MULTI_PLATFORM"])
	return forced || b.attests.any() || len(b.plan.Targets) > len(b.wanted())
}

// keep makes an image part of the store, under its names. Layers of one that will be
// in a registry may stay where they are.
func (b *build) keep(ctx context.Context, out output, m made) error {
	var names []string
	for _, n := range m.names {
		if n.Digest == "" && !out.byDigest { // a digest is a name without being told
			names = append(names, n.String())
		}
	}
	to := exporter.To(b.engine.Store, names...)
	if out.push {
		to.Dst = b.engine.Referring()
	}
	if err := to.Export(ctx, b.engine.Blobs, m.root); err != nil {
		return err
	}
	if len(names) == 0 {
		return b.engine.Store.Hold(ctx, m.root)
	}
	return nil
}

// pushAll sends images to the registries of their names.
func (b *build) pushAll(ctx context.Context, out output, images []made) error {
	for _, m := range images {
		for _, n := range m.names {
			if out.byDigest {
				n.Tag, n.Digest = "", m.root.Digest
			}
			st := b.display.Transfers("pushing " + n.Familiar())
			err := b.engine.Push(ctx, n.Name, m.root)
			st.End(err)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// imageID is what people know the image by: the digest of its configuration, or
// of the index if there is one.
func (b *build) imageID(ctx context.Context, root ocispec.Descriptor) (digest.Digest, error) {
	if exporter.IsIndex(root.MediaType) {
		return root.Digest, nil
	}
	img, err := exporter.ReadImage(ctx, b.engine.Store, root, ocispec.Platform{})
	return img.ConfigDesc.Digest, err
}

// exportArchive writes images to a file, a directory or standard output.
func (b *build) exportArchive(ctx context.Context, out output, images []made) error {
	var all []archive.Image
	for _, m := range images {
		img := archive.Image{Root: m.root, Annotations: maps.Clone(m.root.Annotations)}
		for _, n := range m.names {
			img.Names = append(img.Names, n.String())
		}
		if out.dir && len(m.names) == 0 && len(images) == 1 {
			// As the reference does: tools that work on layouts want a name.
			if img.Annotations == nil {
				img.Annotations = map[string]string{}
			}
			img.Annotations[ocispec.AnnotationRefName] = "latest"
		}
		all = append(all, img)
	}
	if out.dir {
		return archive.WriteLayout(ctx, out.dest, b.engine.Blobs, all, exporter.CopyOptions{})
	}
	return b.writeTo(out.dest, func(w io.Writer) error {
		return archive.Write(ctx, w, b.engine.Blobs, all, archive.Options{Docker: out.kind == "docker", Platform: hostPlatform()})
	})
}

// insecure lists the registries that an output says may be talked to openly.
func (r *request) insecure() []string {
	var hosts []string
	for _, out := range r.outputs {
		if !out.insecure {
			continue
		}
		for _, n := range out.names {
			hosts = append(hosts, n.Registry)
		}
		if out.prefix != nil {
			hosts = append(hosts, out.prefix.Registry)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
