package frontend

import (
	"cmp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"lamina/solver"
)

// variables is where the variables of a stage come from, each name once. It is a
// value: with returns another one. It is for explanations, and for nothing else:
// instructions expand from an environ.
type variables []solver.Variable

// get returns the variable called name.
func (v variables) get(name string) (solver.Variable, bool) {
	i := slices.IndexFunc(v, func(x solver.Variable) bool { return x.Name == name })
	if i < 0 {
		return solver.Variable{}, false
	}
	return v[i], true
}

// with returns v with x in place of what had its name.
func (v variables) with(x solver.Variable) variables {
	v = slices.DeleteFunc(slices.Clone(v), func(old solver.Variable) bool { return old.Name == x.Name })
	return append(v, x)
}

// provenance is where the variables that a stage sees come from.
type provenance struct {
	vars      variables // ARG or ENV, whichever set a name last
	buildArgs variables // ARG, also where an ENV has its name since
	mentioned []string  // in the text of the current instruction
}

// mention notes that the current instruction expands these variables.
func (p *provenance) mention(names map[string]struct{}) {
	for name := range names {
		if !slices.Contains(p.mentioned, name) {
			p.mentioned = append(p.mentioned, name)
		}
	}
	slices.Sort(p.mentioned)
}

// roots are the build arguments that what the current instruction mentions has its
// value from.
func (p *provenance) roots() []string {
	var all []string
	for _, name := range p.mentioned {
		x, ok := p.vars.get(name)
		if ok && x.Arg {
			all = append(all, name)
		}
		all = append(all, x.From...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// setArg notes that an ARG of this value is in force from here on.
func (p *provenance) setArg(x solver.Variable) {
	x.Arg = true
	p.vars, p.buildArgs = p.vars.with(x), p.buildArgs.with(x)
}

// setEnv notes the same of an ENV.
func (p *provenance) setEnv(name, value string, line int) {
	p.vars = p.vars.with(solver.Variable{Name: name, Value: value, Line: line, From: p.roots()})
}

// uses are the variables that the current instruction mentions or has in its
// environment, with the build arguments that these have their values from.
func (p *provenance) uses(env environ) []solver.Variable {
	var all []solver.Variable
	for _, x := range p.vars {
		value, there := env.Get(x.Name)
		if there && value == x.Value || slices.Contains(p.mentioned, x.Name) {
			all = append(all, x)
		}
	}
	for _, x := range slices.Clone(all) {
		for _, name := range x.From {
			arg, ok := p.buildArgs.get(name)
			if ok && !slices.ContainsFunc(all, func(x solver.Variable) bool { return x.Arg && x.Name == name }) {
				all = append(all, arg)
			}
		}
	}
	return all
}

// environment is what op gives a process.
func environment(op solver.Op) environ {
	run, _ := op.(solver.Run)
	return run.Env
}

// argVariable is what arg, which c declares, is from. Its value is that of the ARG
// before the first FROM if it is inherited.
func (s *stage) argVariable(arg instructions.KeyValuePairOptional, inherited bool, c instructions.Command) solver.Variable {
	if inherited {
		x := s.l.globalVariable(arg.Key)
		for _, name := range x.From {
			if _, ok := s.buildArgs.get(name); !ok {
				s.buildArgs = s.buildArgs.with(s.l.globalVariable(name))
			}
		}
		return x
	}
	x := solver.Variable{Name: arg.Key, Line: s.l.pos(c.Location()).First}
	if _, given := s.l.opt.BuildArgs[arg.Key]; !given {
		x.From = slices.DeleteFunc(s.roots(), func(name string) bool { return name == arg.Key })
	}
	return x
}

// globalVariable is the ARG before the first FROM called name, or the predefined one.
func (l *lowering) globalVariable(name string) solver.Variable {
	value, _ := l.globals.Get(name)
	x := solver.Variable{Name: name, Value: value, Arg: true, Line: l.wanted[name].Pos.First}
	seen := map[string]bool{name: true}
	var visit func(name string)
	visit = func(name string) {
		for from := range l.wanted[name].from {
			if !seen[from] {
				seen[from] = true
				x.From = append(x.From, from)
				visit(from)
			}
		}
	}
	visit(name)
	slices.Sort(x.From)
	return x
}

// globalUses are the arguments before the first FROM that are called names, and
// those that their values are from.
func (l *lowering) globalUses(names map[string]struct{}) []solver.Variable {
	var all variables
	for name := range names {
		x := l.globalVariable(name)
		all = all.with(x)
		for _, from := range x.From {
			all = all.with(l.globalVariable(from))
		}
	}
	slices.SortFunc(all, func(a, b solver.Variable) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.Name, b.Name)) })
	return all
}
