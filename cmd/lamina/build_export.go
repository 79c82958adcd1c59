package main

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/registry"
	"lamina/exporter"
	"lamina/exporter/archive"
	"lamina/exporter/dir"
	"lamina/frontend"
	"lamina/snapshot"
	"lamina/solver"
)

// made is what a build made.
type made struct {
	root  ocispec.Descriptor // zero if no image was made
	id    digest.Digest
	names []string
}

// export makes what the outputs say of the results.
func (b *build) export(ctx context.Context, results map[solver.ID]solver.Result) (made, error) {
	var last made
	for _, out := range b.outputs {
		var err error
		switch out.kind {
		case "cacheonly":
		case "local", "tar":
			err = b.exportFiles(ctx, results, out)
		default:
			last, err = b.exportImage(ctx, results, out)
		}
		if err != nil {
			return made{}, err
		}
	}
	return last, nil
}

// exportImage packs the images and puts them where out says.
func (b *build) exportImage(ctx context.Context, results map[solver.ID]solver.Result, out output) (m made, err error) {
	st := b.display.transfers("exporting to " + map[string]string{"image": "image", "oci": "oci image format", "docker": "docker image format"}[out.kind])
	defer func() { st.end(err) }()
	pack := out.pack
	pack.Epoch = epochTime(b.plan.Epoch)
	pack.Progress = func(id snapshot.ID, done int64) { st.bytes("packing layer "+string(id[:min(12, len(id))]), done, 0) }
	root, err := exporter.Pack(ctx, b.images(results), b.engine.Pool, b.engine.Blobs, pack)
	if err != nil {
		return m, err
	}
	m = made{root: root}
	if m.id, err = b.imageID(ctx, root); err != nil {
		return m, err
	}
	for _, n := range out.names {
		m.names = append(m.names, n.String())
	}
	switch out.kind {
	case "oci", "docker":
		return m, b.exportArchive(ctx, out, m)
	}
	if err := b.keep(ctx, m); err != nil {
		return m, err
	}
	if out.push {
		st.end(nil)
		return m, b.push(ctx, m, out.names)
	}
	return m, nil
}

// keep makes an image part of the store, under its names.
func (b *build) keep(ctx context.Context, m made) error {
	e := exporter.To(b.engine.Store, m.names...)
	if err := e.Export(ctx, b.engine.Blobs, m.root); err != nil {
		return err
	}
	if len(m.names) == 0 {
		return b.engine.Store.Hold(ctx, m.root)
	}
	return nil
}

// push sends an image to the registries of its names.
func (b *build) push(ctx context.Context, m made, names []registry.Name) error {
	for _, n := range names {
		st := b.display.transfers("pushing " + n.Familiar())
		err := b.engine.Push(ctx, n, m.root)
		st.end(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// imageID is what people know the image by: the digest of its configuration, or
// of the index if it is for several platforms.
func (b *build) imageID(ctx context.Context, root ocispec.Descriptor) (digest.Digest, error) {
	if exporter.IsIndex(root.MediaType) {
		return root.Digest, nil
	}
	img, err := exporter.ReadImage(ctx, b.engine.Store, root, ocispec.Platform{})
	return img.ConfigDesc.Digest, err
}

// images are the targets with their layers and histories.
func (b *build) images(results map[solver.ID]solver.Result) []exporter.Output {
	var all []exporter.Output
	for _, t := range b.plan.Targets {
		all = append(all, b.image(t, results))
	}
	return all
}

// image completes a target: its history says of each instruction whether it made
// a layer, and when.
func (b *build) image(t frontend.Target, results map[solver.ID]solver.Result) exporter.Output {
	out := exporter.Output{Platform: t.Platform, Config: t.Config, Layers: results[t.Root].Layers}
	out.Config.History = slices.Clone(t.Config.History)
	last := t.Config.Created
	for _, h := range t.History {
		entry := ocispec.History{CreatedBy: h.CreatedBy, Comment: h.Comment, EmptyLayer: true}
		if h.Node != frontend.EmptyLayer {
			below := results[b.plan.Graph.Nodes[h.Node].Inputs[0]].Layers
			if layers := results[h.Node].Layers; len(layers) > len(below) {
				entry.EmptyLayer = false
				last = &layers[len(layers)-1].Created
			}
		}
		entry.Created = b.clamp(last)
		out.Config.History = append(out.Config.History, entry)
	}
	out.Config.Created = b.clamp(last)
	return out
}

// clamp is t, or the epoch if that is earlier.
func (b *build) clamp(t *time.Time) *time.Time {
	if epoch := epochTime(b.plan.Epoch); epoch != nil && (t == nil || t.After(*epoch)) {
		return epoch
	}
	return t
}

// exportArchive writes an image to a file, a directory or standard output.
func (b *build) exportArchive(ctx context.Context, out output, m made) error {
	images := []archive.Image{{Root: m.root, Names: m.names}}
	if out.dir {
		return archive.WriteLayout(ctx, out.dest, b.engine.Blobs, images, exporter.CopyOptions{})
	}
	return b.writeTo(out.dest, func(w io.Writer) error {
		return archive.Write(ctx, w, b.engine.Blobs, images, archive.Options{Docker: out.kind == "docker", Platform: hostPlatform()})
	})
}

// exportFiles writes the files of the result.
func (b *build) exportFiles(ctx context.Context, results map[solver.ID]solver.Result, out output) (err error) {
	st := b.display.begin("exporting files to " + out.dest)
	defer func() { st.end(err) }()
	tree, err := b.files(ctx, results)
	if err != nil {
		return err
	}
	opt := dir.Options{Epoch: epochTime(b.plan.Epoch)}
	if out.kind == "tar" {
		return b.writeTo(out.dest, func(w io.Writer) error { return dir.Tar(ctx, w, tree, opt) })
	}
	return dir.Write(ctx, out.dest, tree, opt)
}

// files is the files of the targets: of several platforms each has a directory
// of its own, as docker names them.
func (b *build) files(ctx context.Context, results map[solver.ID]solver.Result) (snapshot.Tree, error) {
	trees := map[string]snapshot.Tree{}
	for _, t := range b.plan.Targets {
		tree, err := b.engine.Tree(ctx, results[t.Root].Layers)
		if err != nil {
			return nil, err
		}
		if len(b.plan.Targets) == 1 {
			return tree, nil
		}
		name := t.Platform.OS + "_" + t.Platform.Architecture
		if t.Platform.Variant != "" {
			name += "_" + t.Platform.Variant
		}
		trees[name] = tree
	}
	return dir.Join(trees), nil
}

// writeTo writes the file dest; "-" is standard output.
func (b *build) writeTo(dest string, write func(io.Writer) error) error {
	if dest == "-" {
		return write(b.stdout)
	}
	return writeFile(dest, write)
}
