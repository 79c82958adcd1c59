package frontend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/solver"
)

// scratch is the base that is nothing.
const scratch = "scratch"

// defaultPath is PATH where an image says nothing of it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// bases asks a resolver once for each image and platform.
type bases struct {
	resolver Resolver
	mu       sync.Mutex
	known    map[string]func() (Base, error)
}

func newBases(r Resolver) *bases {
	return &bases{resolver: r, known: map[string]func() (Base, error){}}
}

func (b *bases) get(ctx context.Context, ref string, p ocispec.Platform) (Base, error) {
	key := FormatPlatform(p) + " " + ref
	b.mu.Lock()
	get, ok := b.known[key]
	if !ok {
		get = sync.OnceValues(func() (Base, error) { return b.resolver.Resolve(ctx, ref, p) })
		b.known[key] = get
	}
	b.mu.Unlock()
	return get()
}

// resolve finds the images that the needed stages start from, all at once.
func (l *lowering) resolve(ctx context.Context, needed map[*stage]bool) {
	var wait sync.WaitGroup
	var asked []*stage
	for _, s := range slices.Concat(l.stages, l.images) {
		if !needed[s] || s.base != nil || s.resolved {
			continue
		}
		s.resolved = true
		s.platform = l.platform
		if s.ref == scratch && s.given == nil {
			s.image = scratchImage(l.platform)
			continue
		}
		if s.wanted != nil {
			s.platform = *s.wanted
		}
		if s.given == nil {
			s.given = l.named(s.ref, s.platform)
		}
		if s.given != nil && (s.given.Op != nil || s.given.Image == scratch) {
			s.image = scratchImage(s.platform)
			continue
		}
		asked = append(asked, s)
	}
	errs := make([]error, len(asked))
	for i, s := range asked {
		wait.Go(func() { s.found, errs[i] = l.bases.get(ctx, s.imageName(), s.platform) })
	}
	wait.Wait()
	for i, s := range asked {
		if err := errs[i]; err != nil {
			s.failed = true
			l.fail(s.pos, &Error{Text: err.Error(), Hint: l.baseHint(s), Err: err})
			continue
		}
		s.image = cloneImage(s.found.Config)
		s.image.Created = nil
		s.image.RootFS = ocispec.RootFS{Type: "layers"}
		if !s.bare() {
			s.checkBasePlatform()
		}
	}
}

// imageName is the name of the image that s is from.
func (s *stage) imageName() string {
	if s.given != nil {
		return s.given.Image
	}
	return s.ref
}

// bare tells whether the image that s is from has no layer, so that nothing in it
// is for a platform.
func (s *stage) bare() bool {
	return len(s.found.Config.RootFS.DiffIDs) == 0 && !slices.ContainsFunc(s.found.Config.History,
		func(h ocispec.History) bool { return !h.EmptyLayer })
}

// baseHint says what may be wrong with a base that was not found: often it was
// meant to be a stage.
func (l *lowering) baseHint(s *stage) string {
	for _, later := range l.stages {
		if later.name == strings.ToLower(s.ref) {
			return fmt.Sprintf("stage %q is defined below, in line %d: move it above this one", later.name, later.pos.First)
		}
	}
	return didYouMean(s.ref, append(l.stageNames(),
		"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"), true)
}

// baseNode adds the node that is the base of s.
func (s *stage) baseNode() solver.ID {
	if s.imageName() == scratch {
		return s.l.graph.Add(solver.Node{Op: solver.Image{}, Name: "FROM scratch", Pos: s.pos})
	}
	if s.given != nil && s.given.Op != nil {
		return s.contextNode()
	}
	ref := s.found.Ref
	if ref == "" {
		ref = s.imageName()
	}
	if !strings.Contains(ref, "@") {
		ref += "@" + s.found.Digest.String()
	}
	n := solver.Node{Op: solver.Image{Digest: s.found.Digest, Layers: s.found.Layers}, Pos: s.pos, Uses: s.seen}
	if s.given != nil { // which has no number
		n.Name = "[context " + s.contextName() + "] FROM " + ref
	} else {
		n.Name = s.title("FROM "+ref, nil)
	}
	return s.l.graph.Add(n)
}

func scratchImage(p ocispec.Platform) dockerspec.DockerOCIImage {
	var img dockerspec.DockerOCIImage
	img.Platform = p
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	if p.OS != "windows" {
		img.Config.Env = []string{"PATH=" + defaultPath}
	}
	return img
}
