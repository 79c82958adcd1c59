package build

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/engine"
	"lamina/cmd/lamina/internal/provenance"
	"lamina/exporter"
	"lamina/frontend"
	"lamina/solver"
)

// origins remember which image in a registry each base image is. They are safe for
// concurrent use.
type origins struct {
	mu  sync.Mutex
	all map[digest.Digest]origin // by the manifest's digest
}

type origin struct {
	name registry.Name
	root digest.Digest // what the name stands for
}

func (o *origins) add(r *engine.Resolved) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[digest.Digest]origin{}
	}
	o.all[r.Image.Manifest.Digest] = origin{r.Name, r.Root.Digest}
}

// provenance states how the image of t was made.
func (b *build) provenance(t frontend.Target) (exporter.Attestation, error) {
	predicate, err := provenance.Predicate(b.provenanceOf(t), b.attests.full)
	if err != nil {
		return exporter.Attestation{}, fmt.Errorf("provenance: %w", err)
	}
	return exporter.Attestation{PredicateType: provenance.PredicateType, Predicate: predicate}, nil
}

// provenanceOf is what is known of how the image of t was made.
func (b *build) provenanceOf(t frontend.Target) provenance.Build {
	p := provenance.Build{
		File: b.dockerfile.name, Text: b.dockerfile.source,
		Args:     map[string]string{},
		Platform: frontend.FormatPlatform(hostPlatform()),
		Builder:  b.attests.builder, Version: b.Version,
	}
	if len(b.opt.targets) > 0 {
		p.Args["target"] = t.Stage
	}
	for key, value := range b.lowering.BuildArgs {
		p.Args["build-arg:"+key] = value
	}
	for key, value := range b.lowering.Labels {
		p.Args["label:"+key] = value
	}
	if b.plan.Epoch == nil && b.timestamp == nil { // else the image is to be the same twice
		finished := time.Now().UTC()
		p.Started, p.Finished = &b.started, &finished
	}
	w := walker{graph: b.plan.Graph, bases: b.bases.all, platform: frontend.FormatPlatform(t.Platform), build: &p, seen: map[solver.ID]bool{}}
	w.visit(t.Root)
	for _, list := range []*[]string{&p.Locals, &p.Secrets, &p.SSH} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return p
}

// walker collects what went into an image from the graph of its operations.
type walker struct {
	graph    *solver.Graph
	bases    map[digest.Digest]origin
	platform string
	build    *provenance.Build
	seen     map[solver.ID]bool
}

func (w *walker) visit(id solver.ID) {
	if w.seen[id] {
		return
	}
	w.seen[id] = true
	n := w.graph.Nodes[id]
	step := provenance.Step{ID: stepID(id), Name: n.Name, Line: n.Pos.First, Kind: kindOf(n.Op)}
	for _, in := range n.Inputs {
		w.visit(in)
		step.Inputs = append(step.Inputs, stepID(in))
	}
	switch op := n.Op.(type) {
	case solver.Image:
		w.image(op)
	case solver.Local:
		w.build.Locals = append(w.build.Locals, op.Name)
	case solver.HTTP:
		w.build.Materials = append(w.build.Materials, provenance.Material{URI: withoutPassword(op.URL), Digest: provenance.Digest(op.Checksum)})
	case solver.Git:
		w.build.Materials = append(w.build.Materials, provenance.Material{URI: gitURI(op)})
	case solver.Run:
		for _, m := range op.Mounts {
			switch m.Type {
			case solver.MountSecret:
				w.build.Secrets = append(w.build.Secrets, m.SecretID)
			case solver.MountSSH:
				w.build.SSH = append(w.build.SSH, m.SSHID)
			}
		}
		step.Op, _ = json.Marshal(op) // a plain value
	}
	w.build.Steps = append(w.build.Steps, step)
}

func (w *walker) image(op solver.Image) {
	base, ok := w.bases[op.Digest]
	if !ok {
		return // scratch
	}
	pinned := digest.Digest("")
	if base.name.Digest != "" {
		pinned = base.root
	}
	w.build.Materials = append(w.build.Materials, provenance.Material{
		URI: provenance.ImageURI(base.name.FamiliarRepository(), base.name.Tag, pinned, w.platform), Digest: provenance.Digest(base.root),
	})
}

func stepID(id solver.ID) string { return fmt.Sprintf("step%d", id) }

// kindOf is what an operation is called: "run", "copy".
func kindOf(op solver.Op) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", op), ".")
	return strings.ToLower(name)
}

// withoutPassword is a URL as it may be shown to everybody.
func withoutPassword(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	u.User = nil
	return u.String()
}

func gitURI(op solver.Git) string {
	uri := withoutPassword(op.Remote)
	if ref := op.Ref; ref != "" {
		uri += "#" + ref
	}
	return uri
}
