package frontend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/solver"
)

func (o Options) withDefaults() Options {
	if o.BuildPlatform.OS == "" {
		o.BuildPlatform = ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	}
	o.BuildPlatform = NormalizePlatform(o.BuildPlatform)
	if len(o.Targets) == 0 {
		o.Targets = []string{""}
	}
	o.BuildArgs = maps.Clone(o.BuildArgs)
	if o.BuildArgs == nil {
		o.BuildArgs = map[string]string{}
	}
	if _, ok := o.BuildArgs[epochArg]; !ok && o.Epoch != nil {
		o.BuildArgs[epochArg] = fmt.Sprint(*o.Epoch)
	}
	if v, ok := o.BuildArgs["BUILDKIT_SANDBOX_HOSTNAME"]; ok && o.Hostname == "" {
		o.Hostname = v
	}
	return o
}

// platforms returns what to build for; nil is whatever the base image is for.
func (o Options) platforms() []*ocispec.Platform {
	if len(o.Platforms) == 0 {
		return []*ocispec.Platform{nil}
	}
	all := make([]*ocispec.Platform, len(o.Platforms))
	for i, p := range o.Platforms {
		p = NormalizePlatform(p)
		all[i] = &p
	}
	return all
}

// checkMultiPlatform looks at the argument that asks for an index of images, or
// for none.
func (o Options) checkMultiPlatform() error {
	const name = "BUILDKIT_MULTI_PLATFORM"
	value := o.BuildArgs[name]
	if value == "" {
		return nil
	}
	index, err := strconv.ParseBool(value)
	if err != nil {
		return wrong("set it to true or false", "invalid %s: %s", name, value)
	}
	if !index && len(o.Platforms) > 1 {
		return wrong("leave it out, or name one platform", "%s=%s, but there are %d platforms to build for",
			name, value, len(o.Platforms))
	}
	return nil
}

// work is what all targets and platforms of one Lower share.
type work struct {
	file     *File
	opt      Options
	graph    *solver.Graph
	bases    *bases
	declared map[string]bool // names of all ARGs seen
	errors   ErrorList
	epoch    *int64
	findings
}

func newWork(f *File, r Resolver, opt Options) *work {
	opt = opt.withDefaults()
	return &work{
		file: f, opt: opt, graph: &solver.Graph{}, bases: newBases(r), declared: map[string]bool{},
	}
}

// prepare reads what the file and the build arguments say about the build itself.
func (w *work) prepare() error {
	if syntax, ok := w.opt.BuildArgs["BUILDKIT_SYNTAX"]; !ok {
		if w.file.foreign != nil {
			return w.file.foreign
		}
	} else if syntax != builtIn {
		if err := acceptSyntax(syntax); err != nil {
			return err
		}
	}
	if err := w.opt.checkMultiPlatform(); err != nil {
		return err
	}
	return w.configureChecks()
}

// builtIn is the value of BUILDKIT_SYNTAX that asks for no frontend but the one
// that is there, whatever the file's "# syntax=" says.
const builtIn = "dockerfile.v0"

// errFailed stands for an error that was recorded already.
var errFailed = errors.New("recorded already")

// lowering is the way of one target on one platform.
type lowering struct {
	*work
	target   string
	platform ocispec.Platform
	explicit bool // the platform was asked for
	lint     *linter.Linter
	lex      *shell.Lex
	globals  environ // platform arguments and the ARGs before FROM
	// globalNames are those of the ARGs before FROM, also of those without a value.
	globalNames []string
	wanted      map[string]wantedArg // the same, for the outline
	stages      []*stage
	images      []*stage // those that instructions name, in the order of mention
	names       map[string]*stage
	failed      bool
}

// newLowering begins the way of one target for p; nil is the build's platform.
func (w *work) newLowering(p *ocispec.Platform) *lowering {
	l := &lowering{
		work:     w,
		platform: w.opt.BuildPlatform,
		lint:     w.newLinter(),
		lex:      shell.NewLex(w.file.escape),
		names:    map[string]*stage{},
	}
	if p != nil {
		l.platform, l.explicit = *p, true
	}
	return l
}

// lower lowers the stage name and all it needs, and returns it, or nil if
// something of it is wrong.
func (l *lowering) lower(ctx context.Context, name string) *stage {
	target := l.plan(name)
	if l.failed {
		return nil
	}
	var needed map[*stage]bool
	for {
		needed = map[*stage]bool{}
		target.need(needed)
		l.resolve(ctx, l.chosen(needed))
		if ctx.Err() != nil {
			return nil
		}
		if !l.trigger(needed) {
			break
		}
	}
	chosen := l.chosen(needed)
	for _, s := range slices.Concat(l.images, l.stages) {
		if chosen[s] {
			s.lower()
		}
	}
	if l.failed {
		return nil
	}
	return target
}

// copied are the ends of the stages that are read by instructions of the file.
func (l *lowering) copied() (ends []solver.ID) {
	for _, s := range l.stages {
		for _, st := range s.steps {
			for _, from := range st.sources {
				if from != nil && from.lowered && from.index >= 0 {
					ends = append(ends, from.root)
				}
			}
		}
	}
	return ends
}

// chosen are the stages to lower: those needed, or all if all are to be checked.
func (l *lowering) chosen(needed map[*stage]bool) map[*stage]bool {
	if !l.everyStage {
		return needed
	}
	all := map[*stage]bool{}
	for _, s := range slices.Concat(l.images, l.stages) {
		all[s] = true
	}
	return all
}

// fail records err.
func (l *lowering) fail(pos solver.Pos, err error) {
	l.failed = true
	if !errors.Is(err, errFailed) {
		l.errors.add(pos, err)
	}
}

// pos converts the lines of an instruction.
func (l *lowering) pos(lines []parser.Range) solver.Pos { return position(l.file.Name, lines) }

// result is the image of s, which is lowered.
func (l *lowering) result(s *stage) Target {
	img := cloneImage(s.image)
	if len(l.opt.Labels) > 0 && img.Config.Labels == nil {
		img.Config.Labels = map[string]string{}
	}
	maps.Copy(img.Config.Labels, l.opt.Labels)

	if p := l.platform; l.explicit {
		same := p.OS == img.OS && p.Architecture == img.Architecture
		img.OS, img.Architecture = p.OS, p.Architecture
		if p.Variant != "" || !same {
			img.Variant = p.Variant
		}
		if p.OSVersion != "" || !same {
			img.OSVersion = p.OSVersion
		}
	}
	img.Platform = NormalizePlatform(img.Platform)
	name := s.name
	if name == "" {
		name = fmt.Sprint(s.index)
	}
	return Target{Stage: name, Platform: img.Platform, Root: s.root, Config: img, History: slices.Clone(s.history)}
}
