package frontend

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"lamina/solver"
)

// Outline is what can be given to the build of a target.
type Outline struct {
	// Name and Description are those of the target's stage; the comment above it
	// has the description after the name.
	Name, Description string
	// Args are the arguments that the build uses, Secrets and SSH the secrets and
	// agents that its steps mount, each in the order of lines.
	Args    []OutlineArg
	Secrets []OutlineMount
	SSH     []OutlineMount
	// Warnings and Notes are as those of a [Build].
	Warnings []Warning
	Notes    []string
}

// OutlineArg is a build argument.
type OutlineArg struct {
	Name, Description string
	Value             string // in this build
	Pos               solver.Pos
}

// OutlineMount is a secret or an SSH agent.
type OutlineMount struct {
	ID       string
	Required bool
	Pos      solver.Pos
}

// Describe returns the outline of the first of opt's targets. It is the
// reference's request "frontend.outline", and like that takes no notice of
// opt.Platforms. Its errors are those of [Lower].
func Describe(ctx context.Context, f *File, r Resolver, opt Options) (*Outline, error) {
	opt.Allow = everything()
	w := newWork(f, r, opt)
	if err := w.prepare(); err != nil {
		return nil, w.errors.add(solver.Pos{File: f.Name}, err).sorted()
	}
	l := w.newLowering(nil)
	target := l.lower(ctx, w.opt.Targets[0])
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if w.finish(); len(w.errors) > 0 {
		return nil, w.errors.sorted()
	}
	o := &Outline{Name: target.name, Description: target.description, Warnings: w.warnings, Notes: w.notes()}
	target.outline(o)
	return o, nil
}

// wishes are what a stage can be given.
type wishes struct {
	args         map[string]wantedArg // all that are declared, also before FROM
	used         map[string]struct{}  // those that have an effect here
	secrets, ssh []OutlineMount       // each once
}

type wantedArg struct {
	OutlineArg
	from map[string]struct{} // the arguments in its default
}

// wishGlobal notes an ARG before FROM, whose default mentions from.
func wishGlobal(all map[string]wantedArg, arg instructions.KeyValuePairOptional, value *string, from map[string]struct{}, pos solver.Pos) {
	wanted := wantedArg{OutlineArg{Name: arg.Key, Description: arg.DocComment, Pos: pos}, from}
	if value != nil {
		wanted.Value = *value
	}
	if _, again := from[arg.Key]; again { // ARG A=$A-more
		wanted.from = maps.Clone(from)
		maps.Copy(wanted.from, all[arg.Key].from)
		delete(wanted.from, arg.Key)
	}
	all[arg.Key] = wanted
}

// wishFrom notes what the FROM of s mentions; the rest is as with its base.
func (s *stage) wishFrom(used map[string]struct{}) {
	s.wishes = wishes{args: maps.Clone(s.l.wanted), used: map[string]struct{}{}}
	if s.base != nil {
		maps.Copy(s.wishes.used, s.base.wishes.used)
	}
	maps.Copy(s.wishes.used, used)
}

// wishArg notes an ARG with its value. Inherited is one that has that of the ARG
// of this name before FROM, which then says all about it.
func (s *stage) wishArg(arg instructions.KeyValuePairOptional, value *string, inherited bool, pos solver.Pos) {
	if !inherited {
		wanted := wantedArg{OutlineArg: OutlineArg{Name: arg.Key, Description: arg.DocComment, Pos: pos}}
		if value != nil {
			wanted.Value = *value
		}
		s.wishes.args[arg.Key] = wanted
	}
	s.wishes.used[arg.Key] = struct{}{}
}

// wishMount notes the secret or the agent that m mounts.
func (s *stage) wishMount(m *instructions.Mount, pos solver.Pos) {
	switch m.Type {
	case instructions.MountTypeSecret:
		addMount(&s.wishes.secrets, OutlineMount{secretID(m), m.Required, pos})
	case instructions.MountTypeSSH:
		addMount(&s.wishes.ssh, OutlineMount{cmp.Or(m.CacheID, "default"), m.Required, pos})
	}
}

func addMount(list *[]OutlineMount, m OutlineMount) {
	if !slices.ContainsFunc(*list, func(o OutlineMount) bool { return o.ID == m.ID }) {
		*list = append(*list, m)
	}
}

// secretID is the name of the secret that m mounts.
func secretID(m *instructions.Mount) string {
	return cmp.Or(m.Source, m.CacheID, path.Base(m.Target))
}

// effective returns the arguments that are used, also in defaults of others.
func (w wishes) effective() map[string]wantedArg {
	all := map[string]wantedArg{}
	var use func(names map[string]struct{})
	use = func(names map[string]struct{}) {
		for name := range names {
			arg, declared := w.args[name]
			if _, done := all[name]; declared && !done {
				all[name] = arg
				use(arg.from)
			}
		}
	}
	use(w.used)
	return all
}

// outline adds what s and all that it needs can be given to o. Of several
// definitions of a name it is that of the stage closest to the target.
func (s *stage) outline(o *Outline) {
	seen := map[*stage]bool{}
	names := map[string]bool{}
	var visit func(s *stage)
	visit = func(s *stage) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for name, arg := range s.wishes.effective() {
			if !names[name] {
				names[name] = true
				o.Args = append(o.Args, arg.OutlineArg)
			}
		}
		for _, m := range s.wishes.secrets {
			addMount(&o.Secrets, m)
		}
		for _, m := range s.wishes.ssh {
			addMount(&o.SSH, m)
		}
		visit(s.base)
		for _, st := range s.steps {
			for _, src := range st.sources {
				visit(src)
			}
		}
	}
	visit(s)
	slices.SortFunc(o.Args, func(a, b OutlineArg) int {
		return cmp.Or(cmp.Compare(a.Pos.First, b.Pos.First), cmp.Compare(a.Name, b.Name))
	})
	byLine := func(a, b OutlineMount) int { return cmp.Compare(a.Pos.First, b.Pos.First) }
	slices.SortStableFunc(o.Secrets, byLine)
	slices.SortStableFunc(o.SSH, byLine)
}
