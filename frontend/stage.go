package frontend

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/system"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/solver"
)

// historyComment marks history entries as those of a Dockerfile, with the words
// that other tools know.
const historyComment = "buildkit.dockerfile.v0"

// stage is a FROM and the instructions after it, or an image that a COPY or a
// mount names, which has none.
type stage struct {
	l     *lowering
	index int    // in the Dockerfile; -1 for an image
	name  string // after AS, in lower case
	label string // in the names of nodes
	pos   solver.Pos
	lint  *linter.Linter // as the comments before the instruction configure it

	origin
	description string // in a comment above
	wishes      wishes
	steps       []step
	triggered   bool // ONBUILD instructions were added to steps
	lowered     bool

	counted, total int // nodes with a number: so far, in all
	state
}

// origin is what a stage is from: an earlier stage, an image, a named context or
// nothing.
type origin struct {
	ref      string // as FROM says it, variables expanded
	base     *stage
	given    *Context          // what stands for ref or for the stage itself
	replaced bool              // given stands for the stage
	files    solver.ID         // the node of given, if that is a directory of this machine
	wanted   *ocispec.Platform // --platform
	seen     []solver.Variable // by FROM
	resolved bool              // found is known, or never will be
	found    Base
	failed   bool // it could not be resolved
}

// state is what instructions change. A stage begins with a copy of that of the
// stage it is from.
type state struct {
	platform ocispec.Platform
	root     solver.ID
	image    dockerspec.DockerOCIImage
	env      environ // of RUN and of expansion: the image's and the arguments
	args     environ // arguments declared, for the history of RUN
	history  []History
	provenance

	workdirSet bool // by this Dockerfile
	once       map[string][]parser.Range
}

// lower lowers all of s.
func (s *stage) lower() {
	if s.base != nil {
		if s.failed = s.base.failed; s.failed {
			return
		}
		s.state = s.base.state
		s.image = cloneImage(s.image)
		s.history = slices.Clone(s.history)
	} else if s.failed {
		return
	}
	s.image.Config.OnBuild = nil
	s.once = map[string][]parser.Range{}
	s.total = s.numbered()
	if s.base == nil {
		s.root = s.baseNode()
	}
	if err := s.inherit(); err != nil {
		s.l.fail(s.pos, err)
		return
	}
	for _, st := range s.steps {
		if err := s.step(st); err != nil {
			s.l.fail(s.l.pos(st.Location()), err)
		}
	}
	s.lowered = true
}

// inherit takes what the image's configuration says about the instructions to come.
func (s *stage) inherit() error {
	if indexOf(s.image.Config.Env, "PATH") < 0 && s.platform.OS != "windows" {
		s.image.Config.Env = inPlace(s.image.Config.Env, "PATH", defaultPath)
	}
	s.env = s.env.merge(s.image.Config.Env)
	if dir := s.image.Config.WorkingDir; dir != "" {
		// Of an image whose directory is relative, which none should have, it is
		// relative to itself: the reference enters it like a WORKDIR.
		_, err := s.enter(dir)
		return err
	}
	return nil
}

// numbered counts the nodes that get a number in their name.
func (s *stage) numbered() int {
	n := 0
	if s.base == nil && s.ref != scratch && s.index >= 0 {
		n = 1
	}
	for _, st := range s.steps {
		switch st.Command.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			n++
		}
	}
	return n
}

// step lowers one instruction.
func (s *stage) step(st step) error {
	defer func(lint *linter.Linter) { s.lint = lint }(s.lint)
	s.lint = s.l.lint.WithMergedConfigFromComments(st.Comments())
	s.mentioned = nil
	if err := s.expand(st.Command); err != nil {
		return err
	}
	switch c := st.Command.(type) {
	case *instructions.AddCommand:
		return s.lowerAdd(c, st)
	case *instructions.ArgCommand:
		return s.lowerArg(c)
	case *instructions.CmdCommand:
		return s.lowerCmd(c)
	case *instructions.CopyCommand:
		return s.lowerCopy(c, st)
	case *instructions.EntrypointCommand:
		return s.lowerEntrypoint(c)
	case *instructions.EnvCommand:
		return s.lowerEnv(c)
	case *instructions.ExposeCommand:
		return s.lowerExpose(c)
	case *instructions.HealthCheckCommand:
		return s.lowerHealthcheck(c)
	case *instructions.LabelCommand:
		return s.lowerLabel(c)
	case *instructions.MaintainerCommand:
		return s.lowerMaintainer(c)
	case *instructions.OnbuildCommand:
		return s.lowerOnbuild(c)
	case *instructions.RunCommand:
		return s.lowerRun(c, st)
	case *instructions.ShellCommand:
		return s.lowerShell(c)
	case *instructions.StopSignalCommand:
		return s.lowerStopSignal(c)
	case *instructions.UserCommand:
		return s.lowerUser(c)
	case *instructions.VolumeCommand:
		return s.lowerVolume(c)
	case *instructions.WorkdirCommand:
		return s.lowerWorkdir(c, st)
	}
	return wrong("", "%s is not supported", strings.ToUpper(st.Name()))
}

// expand replaces the variables in c, all by their values before c. ARG and
// EXPOSE expand in their own ways.
func (s *stage) expand(c instructions.Command) error {
	if _, ok := c.(*instructions.ArgCommand); ok {
		return nil
	}
	if e, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		if err := e.Expand(s.word(c)); err != nil {
			return err
		}
	}
	if e, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return e.ExpandRaw(s.expander(lex, c))
	}
	return nil
}

// word returns what expands one word of c.
func (s *stage) word(c instructions.Command) instructions.SingleWordExpander {
	return s.expander(s.l.lex, c)
}

func (s *stage) expander(lex *shell.Lex, c instructions.Command) instructions.SingleWordExpander {
	return func(word string) (string, error) {
		v, err := lex.ProcessWordWithMatches(wellFormed(word), s.env)
		s.checkVariables(v.Unmatched, c)
		s.mention(v.Matched)
		return v.Result, err
	}
}

// commit adds an entry to the image's history.
func (s *stage) commit(createdBy string, node solver.ID) {
	s.history = append(s.history, History{CreatedBy: createdBy, Comment: historyComment, Node: node})
}

// add adds a node that becomes the root of s.
func (s *stage) add(n solver.Node, name string, st step) {
	n.Name = name
	n.Pos = s.l.pos(st.Location())
	n.NoCache = s.noCache()
	n.Uses = s.uses(environment(n.Op))
	s.root = s.l.graph.Add(n)
}

func (s *stage) noCache() bool {
	return s.l.opt.NoCache || s.name != "" && slices.ContainsFunc(s.l.opt.NoCacheFilter,
		func(name string) bool { return strings.EqualFold(name, s.name) })
}

// title is the next node's name: "[build 3/7] RUN make".
func (s *stage) title(text string, env environ) string {
	if s.total == 0 {
		return text
	}
	s.counted++
	var prefix string
	if len(s.l.opt.Platforms) > 1 {
		prefix = FormatPlatform(s.platform) + cross(s.platform, env) + " "
	}
	if s.label != "" {
		prefix += s.label + " "
	}
	return fmt.Sprintf("[%s%*d/%d] %s", prefix, len(fmt.Sprint(s.total)), s.counted, s.total, text)
}

// cross is what a step that runs on p is for, "->arm64", if that is another platform.
func cross(p ocispec.Platform, env environ) string {
	text, ok := env.Get("TARGETPLATFORM")
	if !ok {
		os, arch, variant := p.OS, p.Architecture, ""
		for key, v := range map[string]*string{"TARGETOS": &os, "TARGETARCH": &arch, "TARGETVARIANT": &variant} {
			if value, set := env.Get(key); set {
				*v, ok = value, true
			}
		}
		text = path.Join(os, arch, variant)
	}
	target, err := ParsePlatform(text)
	switch {
	case !ok || err != nil:
		return ""
	case target.OS != p.OS:
		return "->" + FormatPlatform(target)
	case target.Architecture != p.Architecture:
		return "->" + path.Join(target.Architecture, target.Variant)
	}
	return ""
}

// stepTitle is the name of the node of st, of which c is the text: variables are
// expanded where that works, and the keyword is in upper case.
func (s *stage) stepTitle(lex *shell.Lex, st step, c fmt.Stringer, note string, env environ) string {
	text := c.String() + note
	if v, _, err := lex.ProcessWord(wellFormed(text), env); err == nil {
		text = v
	}
	keyword, rest, found := strings.Cut(text, " ")
	text = strings.ToUpper(keyword)
	if found {
		text += " " + rest
	}
	if st.triggered {
		text = "ONBUILD " + text
	}
	return s.title(text, s.env)
}

// absolute joins p to the directory dir unless it is absolute already. As in the
// reference an absolute path is kept as it was written.
func absolute(dir, p string) string {
	if p == "" {
		p = dir
	}
	if path.IsAbs(p) {
		return p
	}
	return path.Join("/", dir, p)
}

// workdir is where relative paths begin.
func (s *stage) workdir() string {
	if dir := s.image.Config.WorkingDir; dir != "" {
		return system.ToSlash(dir, s.platform.OS)
	}
	return "/"
}

// enter changes the image's directory to p and returns it, with slashes on any
// operating system.
func (s *stage) enter(p string) (string, error) {
	dir, err := system.NormalizeWorkdir(s.image.Config.WorkingDir, p, s.platform.OS)
	if err != nil {
		return "", fmt.Errorf("%q cannot be the working directory: %w", p, err)
	}
	s.image.Config.WorkingDir = dir
	return system.ToSlash(dir, s.platform.OS), nil
}

func cloneImage(img dockerspec.DockerOCIImage) dockerspec.DockerOCIImage {
	c := &img.Config
	c.Env = slices.Clone(c.Env)
	c.Cmd = slices.Clone(c.Cmd)
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.OnBuild = slices.Clone(c.OnBuild)
	c.Shell = slices.Clone(c.Shell)
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Volumes = maps.Clone(c.Volumes)
	c.Labels = maps.Clone(c.Labels)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	img.History = slices.Clone(img.History)
	return img
}
