package frontend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

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

// work is what all targets and platforms of one Lower share.
type work struct {
	file     *File
	opt      Options
	graph    *solver.Graph
	bases    *bases
	checks   *linter.Config
	declared map[string]bool // names of all ARGs seen
	errors   ErrorList
	warnings []Warning
	seen     map[Warning]bool
	epoch    *int64
}

// prepare reads what the file and the build arguments say about the build itself.
func (w *work) prepare() error {
	w.declared = map[string]bool{}
	if syntax, ok := w.opt.BuildArgs["BUILDKIT_SYNTAX"]; ok {
		if err := acceptSyntax(syntax); err != nil {
			return err
		}
	}
	option, _, lines, _ := parser.ParseDirective("check", w.file.Source)
	if v, ok := w.opt.BuildArgs["BUILDKIT_DOCKERFILE_CHECK"]; ok {
		option, lines = v, nil
	}
	checks, err := linter.ParseLintOptions(option)
	if err != nil {
		return at(position(w.file.Name, lines), err)
	}
	checks.Warn = w.warn
	w.checks = checks
	return nil
}

func (w *work) warn(rule, _, url, text string, lines []parser.Range) {
	warning := Warning{Pos: position(w.file.Name, lines), Rule: rule, Text: text, URL: url}
	if !w.seen[warning] {
		w.seen[warning] = true
		w.warnings = append(w.warnings, warning)
	}
}

// finish adds what is known only at the end, and makes errors of warnings if
// the Dockerfile wants that.
func (w *work) finish() {
	slices.SortStableFunc(w.warnings, func(a, b Warning) int { return cmp.Compare(a.Pos.First, b.Pos.First) })
	if w.checks.ReturnAsError {
		for _, warning := range w.warnings {
			w.errors.add(warning.Pos, wrong("the Dockerfile asks for checks to fail the build (check=error=true)",
				"%s: %s", warning.Rule, warning.Text))
		}
	}
	w.warnUnusedArgs()
}

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
	stages   []*stage
	images   []*stage // those that instructions name, in the order of mention
	names    map[string]*stage
	failed   bool
}

// lower lowers the stage name for p, and all it needs.
func (w *work) lower(ctx context.Context, name string, p *ocispec.Platform) (Target, error) {
	l := &lowering{
		work:     w,
		platform: w.opt.BuildPlatform,
		lint:     linter.New(w.checks),
		lex:      shell.NewLex(w.file.escape),
		names:    map[string]*stage{},
	}
	if p != nil {
		l.platform, l.explicit = *p, true
	}
	target := l.plan(name)
	if l.failed {
		return Target{}, errFailed
	}
	var needed map[*stage]bool
	for {
		needed = map[*stage]bool{}
		target.need(needed)
		l.resolve(ctx, needed)
		if ctx.Err() != nil {
			return Target{}, context.Cause(ctx)
		}
		if !l.trigger(needed) {
			break
		}
	}
	for _, s := range slices.Concat(l.images, l.stages) {
		if needed[s] {
			s.lower()
		}
	}
	if l.failed {
		return Target{}, errFailed
	}
	return l.result(target), nil
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
