package frontend

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"lamina/solver"
)

// contextName is what the worker knows the build context as.
const contextName = "context"

// mounts returns the mounts of c, and inputs with the trees that they show added.
func (s *stage) mounts(c *instructions.RunCommand, st step, inputs []solver.ID) ([]solver.RunMount, []solver.ID, error) {
	var all []solver.RunMount
	for i, m := range instructions.GetMounts(c) {
		s.wishMount(m, s.l.pos(c.Location()))
		var from *stage
		if i < len(st.sources) && m.From != "" {
			from = st.sources[i]
		}
		mount, tree, err := s.mount(m, from, st)
		if err != nil {
			return nil, nil, err
		}
		if tree != nil {
			mount.Input = len(inputs)
			inputs = append(inputs, *tree)
		}
		all = append(all, mount)
	}
	return all, inputs, nil
}

// nested sorts mounts so that what lies in another is mounted after it.
func nested(mounts []solver.RunMount) {
	slices.SortStableFunc(mounts, func(a, b solver.RunMount) int { return cmp.Compare(a.Target, b.Target) })
}

// mount returns one mount and the tree that it shows, if it shows one.
func (s *stage) mount(m *instructions.Mount, from *stage, st step) (solver.RunMount, *solver.ID, error) {
	var tree *solver.ID
	if from != nil {
		root, err := s.readFrom(from, m.From)
		if err != nil {
			return solver.RunMount{}, nil, err
		}
		if from.live() {
			root = s.part(from.files, m.Source, true, "context "+familiarName(m.From), st)
		}
		tree = &root
	}
	switch m.Type {
	case instructions.MountTypeSecret:
		mount, err := s.secretMount(m)
		return mount, nil, err
	case instructions.MountTypeSSH:
		mount, err := s.sshMount(m)
		return mount, nil, err
	}
	target := path.Join("/", m.Target)
	if !path.IsAbs(path.Clean(m.Target)) {
		target = path.Join("/", s.workdir(), m.Target)
	}
	if target == "/" {
		return solver.RunMount{}, nil, wrong("give it a target=, the directory where the command finds it",
			"invalid mount target %q", m.Target)
	}
	mount := solver.RunMount{Type: solver.MountType(m.Type), Target: target, ReadOnly: m.ReadOnly}
	if src := path.Join("/", m.Source); src != "/" {
		mount.Source = src
	}
	switch m.Type {
	case instructions.MountTypeTmpfs:
		if mount.Source != "" {
			return mount, nil, wrong("remove source=, or use a bind", "a tmpfs is empty: there is no %s in it", mount.Source)
		}
		mount.Size, tree = m.SizeLimit, nil
	case instructions.MountTypeCache:
		mount.CacheID, mount.Sharing = s.cacheID(m), string(m.CacheSharing)
		if mount.Sharing == "" {
			mount.Sharing = string(instructions.MountSharingShared)
		}
		if mount.Source == "" { // a part of something has its own mode and owner
			mount.Mode, mount.UID, mount.GID = narrow[uint32](m.Mode), narrow[int](m.UID), narrow[int](m.GID)
		}
	case instructions.MountTypeBind:
		if tree == nil {
			root := s.contextPart(mount.Source, st)
			tree = &root
		}
	}
	return mount, tree, nil
}

// cacheID is the name of a cache: by default that of its target as it is written.
func (s *stage) cacheID(m *instructions.Mount) string {
	id := m.CacheID
	if id == "" {
		id = path.Clean(m.Target)
	}
	if space := s.l.opt.BuildArgs["BUILDKIT_CACHE_MOUNT_NS"]; space != "" {
		id = space + "/" + id
	}
	return id
}

// contextPart returns a tree that has only source of the build context.
func (s *stage) contextPart(source string, st step) solver.ID {
	return s.part(s.context(), source, !s.l.opt.ContextOwners, "the build context", st)
}

// part returns a tree that has only source of a directory of this machine, which is
// called what, so that a RUN depends on nothing else of it.
func (s *stage) part(files solver.ID, source string, resetOwner bool, what string, st step) solver.ID {
	name, dest := ".", path.Join("/", source)
	if dest != "/" {
		name = dest[1:]
	}
	return s.l.graph.Add(solver.Node{
		Op:     solver.Copy{Sources: []solver.CopySource{{Paths: []string{literal(name)}, ResetOwner: resetOwner}}, Dest: dest},
		Inputs: []solver.ID{s.nothing(), files},
		Name:   fmt.Sprintf("[internal] mount %s of %s", name, what),
		Pos:    s.l.pos(st.Location()),
	})
}

// context returns the node of the build context.
func (s *stage) context() solver.ID {
	return s.l.graph.Add(solver.Node{Op: solver.Local{Name: contextName}, Name: "[internal] load build context"})
}

// nothing returns the node of an empty tree.
func (s *stage) nothing() solver.ID {
	return s.l.graph.Add(solver.Node{Op: solver.Image{}, Name: "FROM scratch"})
}

// readFrom returns the tree of another stage, called name, for s to read.
func (s *stage) readFrom(from *stage, name string) (solver.ID, error) {
	if from == s { // only a trigger can name its own stage; others make a circle
		return s.root, nil
	}
	if from.failed {
		return 0, errFailed
	}
	if !from.lowered {
		return 0, wrong(fmt.Sprintf("move the stage of line %d above that of line %d", from.pos.First, s.pos.First),
			"stage %q is defined below the stage that reads it", name)
	}
	return from.root, nil
}

// narrow converts a number that the parser has limited to 32 bits.
func narrow[T uint32 | int](v *uint64) *T {
	if v == nil {
		return nil
	}
	n := T(*v)
	return &n
}
