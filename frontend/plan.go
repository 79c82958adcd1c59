package frontend

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"lamina/solver"
)

// step is an instruction of a stage.
type step struct {
	instructions.Command
	// sources are what it reads beside its own stage: that of a COPY --from, or
	// one for each mount of a RUN, nil where a mount needs none.
	sources   []*stage
	triggered bool // by ONBUILD
}

// plan reads the stages and what they need, and returns the one named target.
// It looks at all stages, also those that nobody needs.
func (l *lowering) plan(target string) *stage {
	l.checkLines()
	stages, args, err := l.file.instructions(l.lint)
	switch {
	case err != nil:
		l.fail(solver.Pos{File: l.file.Name}, l.file.explain(solver.Pos{File: l.file.Name}, err))
		return nil
	case len(stages) == 0:
		l.fail(solver.Pos{File: l.file.Name}, noStage())
		return nil
	}
	l.checkStageNames(stages)
	l.checkCasing(stages)
	l.target = target
	if target == "" {
		l.target = stages[len(stages)-1].Name
	}
	if !l.planArgs(stages, args) {
		return nil
	}
	for i, st := range stages {
		if s, err := l.planStage(i, st); err != nil {
			l.fail(l.pos(st.Location), err)
		} else {
			l.stages = append(l.stages, s)
		}
	}
	if l.failed {
		return nil
	}
	alone := len(l.stages) == 1
	for i, st := range stages {
		for _, c := range st.Commands {
			sources, err := l.sources(c)
			if err != nil {
				l.fail(l.pos(c.Location()), err)
			}
			alone = alone && len(sources) == 0
			if l.stages[i].replaced {
				continue
			}
			l.stages[i].steps = append(l.stages[i].steps, step{Command: c, sources: sources})
		}
	}
	if alone {
		l.stages[0].label = ""
	}
	l.checkNames()
	l.rejectCircles()
	s, err := l.find(target)
	if err != nil {
		l.fail(solver.Pos{File: l.file.Name}, err)
	}
	return s
}

// checkNames looks at the names of all images, also of those that nobody needs.
func (l *lowering) checkNames() {
	for _, s := range slices.Concat(l.stages, l.images) {
		if s.base == nil && s.ref != scratch {
			if err := checkImageName(s.ref); err != nil {
				l.fail(s.pos, err)
			}
		}
	}
}

// planArgs settles the global arguments.
func (l *lowering) planArgs(stages []instructions.Stage, args []instructions.ArgCommand) bool {
	for _, c := range args {
		for _, arg := range c.Args {
			l.declared[arg.Key] = true
			l.globalNames = append(l.globalNames, arg.Key)
		}
	}
	for _, st := range stages {
		for _, c := range st.Commands {
			if c, ok := c.(*instructions.ArgCommand); ok {
				for _, arg := range c.Args {
					l.declared[arg.Key] = true
				}
			}
		}
	}
	platform := platformArgs(l.opt.BuildPlatform, l.platform, l.target, l.opt.BuildArgs)
	l.checkDefaultBases(stages, args, platform)
	globals, wanted, err := l.globalArgs(platform, args, l.opt.BuildArgs)
	if err != nil {
		l.fail(solver.Pos{File: l.file.Name}, err)
		return false
	}
	l.globals, l.wanted = globals, wanted
	l.settleEpoch(args)
	return !l.failed
}

// planStage reads a FROM.
func (l *lowering) planStage(index int, st instructions.Stage) (*stage, error) {
	s := &stage{l: l, index: index, name: st.Name, label: st.Name, description: st.DocComment, pos: l.pos(st.Location)}
	if s.name == "" {
		s.label = fmt.Sprintf("stage-%d", index)
	}
	s.lint = l.lint.WithMergedConfigFromComments(st.Comments)

	if s.name != "" && s.name != scratch && s.name != contextName && checkImageName(s.name) != nil {
		return nil, wrong("use letters, digits and single separators between them", "invalid name for build stage: %q", s.name)
	}
	ref, err := l.lex.ProcessWordWithMatches(wellFormed(st.BaseName), l.globals)
	s.checkFromArgs(ref.Unmatched, st.Location)
	if err != nil {
		return nil, err
	}
	if ref.Result == "" {
		return nil, wrong("give the ARG in it a default, or pass it with --build-arg",
			"the base image %s is empty", st.BaseName)
	}
	s.ref = ref.Result
	used := map[string]struct{}{}
	maps.Copy(used, ref.Matched)

	if st.Platform != "" {
		word, err := l.lex.ProcessWordWithMatches(st.Platform, l.globals)
		s.checkFromArgs(word.Unmatched, st.Location)
		s.checkPlatformFlag(st, word)
		if err != nil {
			return nil, err
		}
		if word.Result == "" {
			return nil, wrong(didYouMeanAny(word.Unmatched, l.globals.Keys()),
				"the platform %s is empty", st.Platform)
		}
		p, err := ParsePlatform(word.Result)
		if err != nil {
			return nil, err
		}
		s.wanted = &p
		maps.Copy(used, word.Matched)
	}
	s.base = l.names[s.ref] // FROM minds the case, which --from does not
	if s.given = s.instead(); s.given != nil {
		s.base, s.replaced = nil, true
	}
	s.wishFrom(used)
	s.seen = l.globalUses(used)
	if s.name != "" {
		l.names[s.name] = s
	}
	return s, nil
}

// find returns the stage that name or an index names; "" is the last one.
func (l *lowering) find(name string) (*stage, error) {
	if name == "" {
		return l.stages[len(l.stages)-1], nil
	}
	if s, ok := l.names[strings.ToLower(name)]; ok {
		return s, nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(l.stages) && strconv.Itoa(i) == name {
		return l.stages[i], nil
	}
	hint := didYouMean(name, l.stageNames(), false)
	if names := l.stageNames(); hint == "" && len(names) > 0 {
		hint = "the stages are " + strings.Join(names, ", ")
	} else if hint == "" {
		hint = fmt.Sprintf("no stage has a name; counted from 0, the last one is %d", len(l.stages)-1)
	}
	return nil, wrong(hint, "target stage %q could not be found", name)
}

func (l *lowering) stageNames() []string {
	var names []string
	for _, s := range l.stages {
		if s.name != "" && !slices.Contains(names, s.name) {
			names = append(names, s.name)
		}
	}
	return names
}

// sources returns the stages and images that c reads.
func (l *lowering) sources(c instructions.Command) ([]*stage, error) {
	switch c := c.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			return nil, nil
		}
		if word, _, err := l.lex.ProcessWord(c.From, environ(nil)); err != nil {
			return nil, err
		} else if word != c.From {
			return nil, wrong("name a stage that starts \"FROM "+c.From+"\", and copy from that",
				"variables are not expanded in --from")
		}
		if i, err := strconv.Atoi(c.From); err == nil {
			if i < 0 || i >= len(l.stages) {
				return nil, wrong(fmt.Sprintf("stages are counted from 0; the last one is %d", len(l.stages)-1),
					"invalid stage index %d", i)
			}
			return []*stage{l.stages[i]}, nil
		}
		return []*stage{l.source(c.From, l.pos(c.Location()))}, nil
	case *instructions.RunCommand:
		var all []*stage
		for _, m := range instructions.GetMounts(c) {
			var s *stage
			if m.From != "" {
				s = l.source(m.From, l.pos(c.Location()))
			}
			all = append(all, s)
		}
		return all, nil
	}
	return nil, nil
}

// source returns the stage called name, or else the image.
func (l *lowering) source(name string, pos solver.Pos) *stage {
	if s, ok := l.names[strings.ToLower(name)]; ok {
		return s
	}
	for _, s := range l.images {
		if s.ref == name {
			return s
		}
	}
	s := &stage{l: l, index: -1, origin: origin{ref: name}, pos: pos, lint: l.lint}
	l.images = append(l.images, s)
	return s
}

// need adds s and all that it needs to needed.
func (s *stage) need(needed map[*stage]bool) {
	if s == nil || needed[s] {
		return
	}
	needed[s] = true
	s.base.need(needed)
	for _, st := range s.steps {
		for _, src := range st.sources {
			src.need(needed)
		}
	}
}

// rejectCircles fails if a stage copies from itself, by whatever way.
func (l *lowering) rejectCircles() {
	done := map[*stage]bool{}
	var path []*stage
	var visit func(s *stage, from solver.Pos) bool
	visit = func(s *stage, from solver.Pos) bool {
		if i := slices.Index(path, s); i >= 0 {
			var names []string
			for _, p := range append(slices.Clone(path[i:]), s) {
				names = append(names, p.label)
			}
			l.fail(from, wrong("a stage can only copy from those above it",
				"circular dependency between stages: %s", strings.Join(names, " -> ")))
			return true
		}
		if done[s] {
			return false
		}
		done[s] = true
		path = append(path, s)
		defer func() { path = path[:len(path)-1] }()
		for _, st := range s.steps {
			for _, src := range st.sources {
				if src != nil && visit(src, l.pos(st.Location())) {
					return true
				}
			}
		}
		return false
	}
	for _, s := range l.stages {
		if visit(s, s.pos) {
			return
		}
	}
}

// trigger puts the ONBUILD instructions of bases in front of those of the needed
// stages, once, and tells whether they read anything new.
func (l *lowering) trigger(needed map[*stage]bool) bool {
	more := false
	for _, s := range l.stages {
		if !needed[s] || s.triggered {
			continue
		}
		s.triggered = true
		var front []step
		for _, text := range s.triggers() {
			c, err := parseTrigger(text, s.pos)
			if err != nil {
				l.fail(s.pos, err)
				continue
			}
			sources, err := l.sources(c)
			if err != nil {
				l.fail(s.pos, err)
				continue
			}
			more = more || len(sources) > 0
			front = append(front, step{Command: c, sources: sources, triggered: true})
		}
		s.steps = append(front, s.steps...)
	}
	return more
}

// triggers are the ONBUILD instructions of what s is from.
func (s *stage) triggers() []string {
	if s.replaced {
		return nil
	}
	if s.base == nil {
		return s.image.Config.OnBuild
	}
	var all []string
	for _, st := range s.base.steps {
		if c, ok := st.Command.(*instructions.OnbuildCommand); ok {
			all = append(all, c.Expression)
		}
	}
	return all
}

// parseTrigger reads one ONBUILD instruction; its errors are those of pos, the
// FROM that triggers it.
func parseTrigger(text string, pos solver.Pos) (instructions.Command, error) {
	res, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, triggerError(text, err)
	}
	if len(res.AST.Children) != 1 {
		return nil, triggerError(text, errors.New("this is not one instruction"))
	}
	node := res.AST.Children[0]
	node.StartLine, node.EndLine = pos.First, pos.Last
	v, err := instructions.ParseInstructionWithLinter(node, silent())
	if err != nil {
		return nil, triggerError(text, err)
	}
	c, ok := v.(instructions.Command)
	if !ok {
		return nil, triggerError(text, errors.New("this is no instruction for a trigger"))
	}
	return c, nil
}

// triggerError says which trigger err is of.
func triggerError(text string, err error) error {
	e := at(solver.Pos{}, err)
	e.Pos = solver.Pos{}
	e.Text = fmt.Sprintf("ONBUILD %s: %s", firstLine(text), e.Text)
	if e.Hint == "" {
		e.Hint = "the base has this instruction for those who build on it"
	}
	return e
}
