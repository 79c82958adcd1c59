package frontend

import (
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/solver"
)

// Context is what a name stands for in place of a stage or an image of the
// Dockerfile: files from elsewhere, or another image.
type Context struct {
	// Op has the files: a Local, a Git or an HTTP.
	Op solver.Op
	// Image, if Op is nil, is what the [Resolver] is asked for, or "scratch".
	Image string
}

// ContextName returns the key in [Options].Contexts of NAME or NAME::PLATFORM,
// where NAME is that of a stage or an image; "alpine", "alpine:latest" and
// "docker.io/library/alpine" are the same.
func ContextName(s string) (string, error) {
	name, platform, limited := strings.Cut(s, "::")
	if err := checkImageName(name); err != nil {
		return "", err
	}
	name = familiarName(name)
	if !limited {
		return name, nil
	}
	p, err := ParsePlatform(platform)
	if err != nil {
		return "", err
	}
	return contextKey(name, p), nil
}

// familiarName is the shortest name of the image ref.
func familiarName(ref string) string {
	registry, rest := splitImageName(ref)
	name := registry + "/" + rest
	if short, hub := strings.CutPrefix(name, "docker.io/"); hub {
		if name = short; strings.Count(name, "/") == 1 {
			name = strings.TrimPrefix(name, "library/")
		}
	}
	return strings.TrimSuffix(name, ":latest")
}

func contextKey(name string, p ocispec.Platform) string {
	return name + "::" + FormatPlatform(NormalizePlatform(p))
}

// named returns the context that stands for name on p: the one for that platform,
// or else the one for any.
func (l *lowering) named(name string, p ocispec.Platform) *Context {
	if len(l.opt.Contexts) == 0 {
		return nil
	}
	name = familiarName(name)
	for _, key := range []string{contextKey(name, p), name} {
		if c, ok := l.opt.Contexts[key]; ok {
			return &c
		}
	}
	return nil
}

// instead returns the context that stands for the stage s, of which then only the
// name is left. What cannot be a name of it is never replaced.
func (s *stage) instead() *Context {
	if s.name == "" || s.name == scratch || s.name == contextName {
		return nil
	}
	p := s.l.platform
	if s.wanted != nil {
		p = *s.wanted
	}
	return s.l.named(s.name, p)
}

// contextName is the name that the context has which s is from.
func (s *stage) contextName() string {
	if s.replaced {
		return familiarName(s.name)
	}
	return familiarName(s.ref)
}

// contextNode adds the node that has the files of the context that s is from.
func (s *stage) contextNode() solver.ID {
	g, name := s.l.graph, s.contextName()
	label := "[context " + name + "] "
	switch op := s.given.Op.(type) {
	case solver.Local:
		s.files = g.Add(solver.Node{Op: op, Name: label + "load from client", Pos: s.pos})
		return g.Add(solver.Node{
			Op:     solver.Copy{Sources: []solver.CopySource{{Paths: []string{"."}, ResetOwner: true}}, Dest: "/"},
			Inputs: []solver.ID{s.nothing(), s.files},
			Name:   "local source for " + name,
			Pos:    s.pos,
		})
	case solver.Git:
		return g.Add(solver.Node{Op: op, Name: label + hidePassword(op.Remote), Pos: s.pos})
	case solver.HTTP:
		return g.Add(solver.Node{Op: op, Name: label + hidePassword(op.URL), Pos: s.pos})
	}
	panic(fmt.Sprintf("frontend: a context cannot be a %T", s.given.Op))
}

// live tells whether s is nothing but a directory of this machine, of which
// readers should take only what they need.
func (s *stage) live() bool {
	if s.given == nil || len(s.steps) > 0 {
		return false
	}
	_, local := s.given.Op.(solver.Local)
	return local
}
