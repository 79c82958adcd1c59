package build

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter/dir"
	"lamina/frontend"
	"lamina/snapshot"
	"lamina/solver"
)

// results are those of the nodes that stand behind images.
type results map[solver.ID]solver.Result

// export makes what the outputs say of the results, and returns the images, one
// for each target, as the last output of images has them.
func (b *build) export(ctx context.Context, found results) ([]made, error) {
	var images []made
	for _, out := range b.outputs {
		var err error
		switch {
		case out.isImage():
			images, err = b.exportImages(ctx, found, out)
		case out.kind != "cacheonly":
			err = b.exportFiles(ctx, found, out)
		}
		if err != nil {
			return nil, err
		}
	}
	return images, nil
}

// wanted are the names by which the command line calls the stages it wants; one
// that is empty is the last stage.
func (b *build) wanted() []string {
	if len(b.opt.targets) == 0 {
		return []string{""}
	}
	return b.opt.targets
}

// platformsOf is what was lowered for target number i, for each platform.
func (b *build) platformsOf(i int) []frontend.Target {
	n := len(b.plan.Targets) / len(b.wanted())
	return b.plan.Targets[i*n : (i+1)*n]
}

// settle refuses what only now is known to be impossible, before anything is built,
// and says what has no effect.
func (b *build) settle() error {
	images := 0
	for _, out := range b.outputs {
		for _, note := range out.notes {
			b.display.Warn(note)
		}
		if !out.isImage() {
			continue
		}
		images++
		for _, a := range out.annotations {
			if a.platform != nil && !slices.ContainsFunc(b.plan.Targets, func(t frontend.Target) bool {
				return frontend.FormatPlatform(t.Platform) == frontend.FormatPlatform(*a.platform)
			}) {
				return fmt.Errorf("annotation %s is for %s, which is not built", a.key, frontend.FormatPlatform(*a.platform))
			}
			if strings.HasPrefix(a.place, "index") && !b.indexed() {
				return cli.WithHint(fmt.Errorf("annotation %s is for an index, and an image of a single platform has none", a.key),
					"leave \"%s:\" out, or build for several platforms", a.place)
			}
		}
		if out.rewrite && b.epochOf(out) == nil {
			b.display.Warn("timestamps are not rewritten: there is no SOURCE_DATE_EPOCH")
		}
	}
	for i := range b.plan.Targets {
		unset(b.removals, &b.plan.Targets[i].Config.Config, b.display.Warn)
	}
	if images == 0 && len(b.opt.annotations) > 0 {
		b.display.Warn("--annotation has no effect: no --output is an image")
	}
	return nil
}

// epochOf is the time that an output is said to be of, if any.
func (b *build) epochOf(out output) *time.Time {
	switch {
	case b.timestamp != nil:
		return b.timestamp
	case out.epoch != nil:
		return out.epoch
	}
	return epochTime(b.plan.Epoch)
}

// exportFiles writes the files of the result.
func (b *build) exportFiles(ctx context.Context, found results, out output) (err error) {
	st := b.display.Begin("exporting files to " + out.dest)
	defer func() { st.End(err) }()
	tree, err := b.files(ctx, found, out)
	if err != nil {
		return err
	}
	opt := dir.Options{Epoch: b.epochOf(out), Delete: out.remove}
	if out.kind == "tar" {
		return b.writeTo(out.dest, func(w io.Writer) error { return dir.Tar(ctx, w, tree, opt) })
	}
	return dir.Write(ctx, out.dest, tree, opt)
}

// files is the files of all targets: of several each has a directory of its own.
func (b *build) files(ctx context.Context, found results, out output) (snapshot.Tree, error) {
	if len(b.wanted()) == 1 {
		return b.filesOf(ctx, found, out, b.plan.Targets)
	}
	trees := map[string]snapshot.Tree{}
	for i, name := range b.wanted() {
		tree, err := b.filesOf(ctx, found, out, b.platformsOf(i))
		if err != nil {
			return nil, err
		}
		trees[name] = tree
	}
	return dir.Join(trees), nil
}

// filesOf is the files of one target: of several platforms each has a directory of
// its own, as docker names them, unless out says otherwise.
func (b *build) filesOf(ctx context.Context, found results, out output, all []frontend.Target) (snapshot.Tree, error) {
	trees := map[string]snapshot.Tree{}
	var parts []dir.Part
	for _, t := range all {
		tree, err := b.engine.Tree(ctx, found[t.Root].Layers)
		if err != nil {
			return nil, err
		}
		platform := frontend.FormatPlatform(t.Platform)
		trees[strings.ReplaceAll(platform, "/", "_")] = tree
		parts = append(parts, dir.Part{Name: platform, Tree: tree})
	}
	split := len(all) > 1
	if out.split != nil {
		split = *out.split
	}
	switch {
	case split:
		return dir.Join(trees), nil
	case len(all) == 1:
		return parts[0].Tree, nil
	}
	return dir.Merge(parts), nil
}

// writeTo writes the file dest; "-" is standard output.
func (b *build) writeTo(dest string, write func(io.Writer) error) error {
	if dest == "-" {
		return write(b.Stdout)
	}
	if err := cli.MakeParent(dest); err != nil {
		return err
	}
	return cli.WriteFile(dest, write)
}
