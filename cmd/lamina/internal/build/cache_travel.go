package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"lamina/cmd/lamina/internal/builds"
	"lamina/exporter"
	"lamina/frontend"
	"lamina/solver"
	"lamina/solver/local"
	"lamina/solver/travel"
)

// travelling is what a build knows of caches from and to elsewhere.
type travelling struct {
	used     travel.Collector
	imported map[string]*travel.Cache // by place
	// asked are the caches of --cache-from, to be remembered, and positions those,
	// from 1, of the caches that were imported.
	asked     []builds.Cache
	positions []int
}

// importPatience is how long a build waits for the caches that it is to use.
const importPatience = time.Minute

var errSlow = errors.New("it took too long to answer")

// importCaches begins to read the caches that --cache-from names and returns what
// waits for them, and what gives up on them. One that cannot be had is no reason to
// fail: the build only takes longer.
func (b *build) importCaches(outer context.Context) (wait func() []solver.Records, stop func()) {
	ctx, cancel := context.WithTimeoutCause(outer, importPatience, errSlow)
	type imported struct {
		cache *travel.Cache
		index *travel.Index
		err   string
	}
	all := make([]imported, len(b.caches.from))
	var wg sync.WaitGroup
	for i, from := range b.caches.from {
		wg.Go(func() {
			st := b.display.Begin("importing cache manifest from " + from.String())
			found, index, err := b.engine.ImportCache(ctx, from.Place)
			st.End(nil)
			switch {
			case err != nil && !errors.Is(ctx.Err(), context.Canceled):
				all[i].err = notImported(from, err)
				b.display.Warn(all[i].err)
			case err == nil:
				all[i].cache, all[i].index = found, index
				if found.Dropped > 0 {
					b.display.Warn(fmt.Sprintf("%d of %d records in the cache %s make no sense, and are not used", found.Dropped, found.Dropped+found.Steps(), from))
				}
			}
		})
	}
	wait = sync.OnceValue(func() (indexes []solver.Records) {
		wg.Wait()
		b.travelling.imported = map[string]*travel.Cache{}
		for i, found := range all {
			asked := builds.Cache{Name: b.caches.from[i].String(), Error: found.err}
			if found.cache != nil {
				indexes = append(indexes, found.index)
				b.travelling.imported[asked.Name] = found.cache
				b.travelling.positions = append(b.travelling.positions, i+1)
				asked.Steps = found.cache.Steps()
			}
			b.travelling.asked = append(b.travelling.asked, asked)
		}
		return indexes
	})
	return wait, func() { cancel(); wait() }
}

// warnOfCaches says which directories with caches are a part of what is built.
func (b *build) warnOfCaches(in *input) {
	var dirs []string
	for _, from := range b.caches.from {
		dirs = append(dirs, from.Dir)
	}
	for _, to := range b.caches.to {
		dirs = append(dirs, to.Dir)
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		rel, ok := inside(b.context, dir)
		if dir == "" || !ok || in.remote {
			continue
		}
		if _, err := in.tree.Lstat(rel); err == nil {
			b.display.Warn(fmt.Sprintf("the cache %s is in the build context, where a COPY of everything never finds itself cached: list it in .dockerignore", dir))
		}
	}
}

// notImported says why a cache is not used.
func notImported(from cacheFrom, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("there is no cache in %s yet", from)
	case errors.Is(err, travel.ErrNoCache):
		return fmt.Sprintf("the image %s carries no cache: build it with --cache-to type=inline", from)
	}
	return fmt.Sprintf("the cache %s is not used: %v", from, err)
}

// solveWith solves with what was imported. A layer that turns out not to be what a
// cache said, or not to be there, makes its steps miss; then it begins again, and
// what was done meanwhile is in the cache.
func (b *build) solveWith(ctx context.Context, w *local.Worker, roots []solver.ID, opt solver.Options) ([]solver.Result, error) {
	g := b.plan.Graph
	bases := travel.Bases(g)
	opt.Solved = b.travelling.used.Solved
	b.rememberPlan(roots)
	defer b.rememberNearest(opt.Imports)
	display := opt.Events
	show := func(e solver.Event) { display(e); b.recording.Event(e) }
	again := func(err error) *local.LayerError {
		var lost *local.LayerError
		if errors.As(err, &lost) && (!bases[lost.Layer.Blob.Digest] || errors.Is(err, local.ErrFalseList)) {
			return lost
		}
		return nil
	}
	for {
		opt.Events = func(e solver.Event) {
			if e.Status == solver.Failed && again(e.Err) != nil {
				e.Status = solver.Canceled
			}
			show(e)
		}
		results, err := solver.Solve(ctx, g, roots, w, opt)
		lost := again(err)
		if lost == nil || ctx.Err() != nil || !w.Distrust(lost.Layer) {
			return results, err
		}
		b.display.Warn(fmt.Sprintf("a cached layer cannot be used, so its steps are executed: %v", lost))
	}
}

// exportCaches writes the caches that --cache-to names.
func (b *build) exportCaches(ctx context.Context) error {
	for _, to := range b.caches.to {
		if to.note != "" {
			b.display.Warn(to.note)
		}
		if to.inline {
			if why := b.notCarried(); why != "" {
				b.display.Warn("--cache-to type=inline has no effect: " + why)
			}
			continue // the image has it
		}
		if err := b.exportCache(ctx, to); err != nil {
			err = fmt.Errorf("export cache to %s: %w", to, err)
			if !to.ignoreError || ctx.Err() != nil {
				return err
			}
			b.display.Warn(err.Error())
		}
	}
	return nil
}

// notCarried says why images carry no cache, if they do not.
func (b *build) notCarried() string {
	switch {
	case !slices.ContainsFunc(b.outputs, func(out output) bool { return out.isImage() }):
		return "no --output is an image"
	case b.opt.squash, b.opt.squashAll:
		return "squashed layers are no step's"
	}
	return ""
}

func (b *build) exportCache(ctx context.Context, to cacheTo) (err error) {
	st := b.display.Transfers("exporting cache to " + to.String())
	defer func() {
		if err != nil && to.ignoreError && ctx.Err() == nil {
			st.End(nil)
			return
		}
		st.End(err)
	}()
	copied := b.travelling.used.Identities(b.plan.Graph, b.plan.Copied)
	steps, err := travel.Pack(ctx, b.cachedSteps(to.max), travel.Bases(b.plan.Graph), copied, b.engine.Pool, b.engine.Blobs, b.cachePacking(to))
	if err != nil {
		return err
	}
	sent := b.exportMounts(ctx, to, steps, st.Say)
	defer sent.close()
	report, err := b.engine.ExportCache(ctx, to.Place, steps, travel.Options{
		DockerTypes: to.pack.DockerTypes, Known: sent.there,
		Replacing: func(err error) {
			b.display.Warn(fmt.Sprintf("what was in the cache %s is replaced: %v", to, err))
		},
	})
	if err != nil {
		return err
	}
	sent.sentAs(report)
	return nil
}

// cachedSteps are the steps that a cache is made of: those of the results' own
// layers, or all that this build found or made.
func (b *build) cachedSteps(all bool) []*solver.Record {
	if all {
		return b.travelling.used.All(b.plan.Graph)
	}
	var roots []solver.ID
	for _, t := range b.plan.Targets {
		roots = append(roots, t.Root)
	}
	return b.travelling.used.Own(b.plan.Graph, roots...)
}

// cachePacking says how a cache's layers are packed: unless it says so itself, as
// the image's are, so that they are the same blobs.
func (b *build) cachePacking(to cacheTo) exporter.PackOptions {
	pack := to.pack
	for _, out := range b.outputs {
		if out.isImage() {
			pack = b.packing(out)
			break
		}
	}
	if to.chosen {
		pack.Compression, pack.Level = to.pack.Compression, to.pack.Level
	}
	pack.Force = to.pack.Force
	pack.DockerTypes = false // records name layers in one way; the manifest says it in the other
	return pack
}

// carryCache adds to the image of a target the cache of its own steps, if that is
// asked for.
func (b *build) carryCache(t frontend.Target, img *exporter.Output) error {
	if !b.caches.inline() {
		return nil
	}
	records, err := travel.Inline(b.travelling.used.Own(b.plan.Graph, t.Root), img.Layers)
	if err != nil {
		return err
	}
	img.ConfigMembers = map[string]json.RawMessage{travel.ConfigMember: records}
	return nil
}
