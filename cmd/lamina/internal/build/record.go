package build

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/progress"
	"lamina/frontend"
	"lamina/solver"
	"lamina/solver/local/gitsource"
)

// remember begins to record the build, which is remembered whatever becomes of it.
// That it cannot be recorded is no reason not to build.
func (b *build) remember() {
	recording, err := builds.In(b.engine.Store).Begin(builds.Build{
		Started: b.started, Context: contextPath(b.context), Dockerfile: shown(b.opt.file),
		Targets: b.opt.targets, Names: b.names(), Args: storedArgs(b.lowering.BuildArgs),
		NoCache: b.opt.noCache, NoCacheFilter: b.opt.noCacheFilter,
	})
	if err != nil {
		b.Logger().Warn("the build will not be remembered", "error", err)
		return
	}
	b.recording = recording
	b.display.Observe = (&phases{recording: recording, numbers: map[string]int{}}).observe
}

// remembered ends the recording; err is how the build failed, if it did.
func (b *build) remembered(ctx context.Context, images []made, err error) {
	status := builds.Succeeded
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTimeout):
		status, err = builds.Failed, errLate(b.opt.timeout)
	case err != nil && ctx.Err() != nil:
		status, err = builds.Canceled, nil // there is nothing more to say
	case err != nil:
		status = builds.Failed
	}
	var all []builds.Image
	for _, m := range images {
		img := builds.Image{Digest: m.root.Digest, ID: m.id}
		for _, n := range m.names {
			img.Names = append(img.Names, n.String())
		}
		all = append(all, img)
	}
	if err := b.recording.End(status, err, all); err != nil {
		b.Logger().Warn("what is remembered of builds is not up to date", "error", err)
	}
}

// rememberInput says where the Dockerfile is.
func (b *build) rememberInput(in *input) {
	name := shown(in.name)
	if abs, err := filepath.Abs(in.name); err == nil && !in.remote && b.context != "-" && in.name != "-" && !isHTTP(in.name) {
		name = abs
	}
	b.recording.Describe(func(r *builds.Build) { r.Dockerfile = name })
}

// rememberPlan says what is solved for, and where it is looked up.
func (b *build) rememberPlan(roots []solver.ID) {
	var platforms []string
	for _, t := range b.plan.Targets {
		if p := frontend.FormatPlatform(t.Platform); !slices.Contains(platforms, p) {
			platforms = append(platforms, p)
		}
	}
	caches := slices.Clone(b.travelling.asked)
	b.recording.Describe(func(r *builds.Build) { r.Platforms, r.Caches = platforms, caches })
	b.recording.Solving(b.plan.Graph, roots, gitsource.Redact)
}

// names are those that the images are to have.
func (b *build) names() []string {
	var all []string
	for _, out := range b.outputs {
		for _, n := range out.names {
			if !slices.Contains(all, n.String()) {
				all = append(all, n.String())
			}
		}
	}
	return all
}

// traced remembers what became of the nodes.
func (b *build) traced(traces []solver.Trace) {
	all := slices.Clone(traces)
	for i := range all {
		if from := all[i].From; from > 0 {
			all[i].From = b.travelling.positions[from-1]
		}
	}
	b.recording.Traced(b.plan.Graph, all, gitsource.Redact)
}

// contextPath is the context that arg names, as it is remembered: of a directory the
// absolute path, of a URL what may be shown of it.
func contextPath(arg string) string {
	if _, isGit, _ := frontend.ParseGit(arg); arg == "-" || isGit || isHTTP(arg) {
		return shown(arg)
	}
	return realPath(arg)
}

// storedArgs are build arguments as they are remembered: like the records of the
// cache these have the values, but not the passwords of proxies.
func storedArgs(args map[string]string) map[string]string {
	all := maps.Clone(args)
	for name, value := range all {
		if strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			all[name] = gitsource.Redact(value)
		}
	}
	return all
}

// phases record what a build does besides its graph.
type phases struct {
	recording *builds.Recording
	mu        sync.Mutex
	numbers   map[string]int // by the name of the display's step
}

// observe is told of each event of the display that is not one of the graph's.
func (p *phases) observe(e progress.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	i, begun := p.numbers[e.Step]
	switch {
	case e.Kind == progress.Start:
		p.numbers[e.Step] = p.recording.Phase(e.Name, now)
	case e.Step == "" && e.Kind == progress.Warning:
		p.recording.Warn(string(e.Log))
	case !begun:
	case e.Kind == progress.Log:
		p.recording.PhaseSaid(i, strings.TrimSuffix(string(e.Log), "\n"))
	case e.Kind == progress.Done:
		p.recording.EndPhase(i, now, builds.Succeeded, nil)
	case e.Kind == progress.Canceled:
		p.recording.EndPhase(i, now, builds.Canceled, nil)
	case e.Kind == progress.Failed:
		p.recording.EndPhase(i, now, builds.Failed, e.Err)
	}
}
