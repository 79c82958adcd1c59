// Package build is the command "lamina build": what is asked for, what it is built
// from, and what becomes of the result. Files are named by subject: context* is what
// is built, step* what RUNs are given, cache* the caches of other machines, call*
// questions instead of a build, output* and export* the result. The command "lamina
// context" is in intake.go.
package build

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/frontend"
	"lamina/snapshot/fileset"
	"lamina/solver"
	"lamina/solver/local"
)

// New returns the command.
func New(e *cli.Env) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH | URL | -",
		Short:   "Build an image from a Dockerfile",
		GroupID: cli.GroupCommon,
		Long: `Build an image from a Dockerfile and the files of a context.

The context is a directory, or "-" for a tar archive or a Dockerfile on the
standard input. The image goes into the store, under the names given by --tag,
unless --output says otherwise. Steps whose inputs did not change are taken from
the cache.`,
		Args: cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := newRequest(e, o, args[0])
			if err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			if o.watch {
				return watchBuild(cmd.Context(), e, req)
			}
			return runBuild(cmd.Context(), e, req)
		},
	}
	o.register(cmd.Flags())
	return cmd
}

// build is one run of "lamina build".
type build struct {
	*cli.Env
	*request
	engine  *engine.Engine
	display *cli.Steps
	plan    *frontend.Build
	// What is stated about the result, if it is asked for.
	started    time.Time
	dockerfile *input
	bases      origins
	remarks    remarks
	recording  *builds.Recording // nil: what is done is not remembered
	verified   *verification     // nil: nothing is
	travelling
}

// runBuild builds once, in no more than the time that --timeout gives it.
func runBuild(ctx context.Context, e *cli.Env, req *request) error {
	return within(ctx, req.opt.timeout, func(ctx context.Context) error { return buildOnce(ctx, e, req) })
}

func buildOnce(ctx context.Context, e *cli.Env, req *request) (err error) {
	b := &build{Env: e, request: req, started: time.Now().UTC()}
	if b.display, err = cli.NewSteps(e, req.opt.progress, req.opt.quiet, "Building"); err != nil {
		return err
	}
	defer b.display.Close()
	if b.engine, err = e.OpenEngine(ctx, b.display, req.insecure()...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.CloseEngine(ctx, b.engine)) }()
	var images []made
	if b.call == nil {
		b.remember()
		defer func() { err = errors.Join(err, b.explain(ctx)) }()
		defer func() { b.remembered(ctx, images, err) }()
	}

	in, err := b.openInput(ctx, req.context)
	if err != nil {
		return err
	}
	defer in.Close()
	b.dockerfile = in
	b.rememberInput(in)
	defer b.tellWarnings(in)
	defer b.display.Close()
	if b.call != nil {
		return b.runCall(ctx, in)
	}
	found, err := b.solve(ctx, in)
	if err != nil {
		return b.failed(err, in.source)
	}
	settled := b.engine.Settle()
	defer settled()
	if images, err = b.export(ctx, found); err != nil {
		return err
	}
	if err := b.exportCaches(ctx); err != nil {
		return err
	}
	b.display.Close()
	if err := b.tell(images); err != nil {
		return err
	}
	return b.tellVerified()
}

// solve lowers the Dockerfile and computes what it asks for: the result of every
// node that stands behind an image's history.
func (b *build) solve(ctx context.Context, in *input) (results, error) {
	if err := b.dateContext(in); err != nil {
		return nil, err
	}
	file, err := frontend.Parse(in.name, in.source)
	if err != nil {
		return nil, err
	}
	b.warnOfCaches(in)
	imports, stop := b.importCaches(ctx)
	defer stop()
	plan, err := frontend.Lower(ctx, file, &resolver{b}, b.lowering)
	if err != nil {
		return nil, err
	}
	b.plan = plan
	b.remark(remarks{plan.Warnings, append(b.opt.notes(), plan.Notes...)})
	if err := b.police(plan.Graph); err != nil {
		return nil, err
	}
	if err := b.settle(); err != nil {
		return nil, err
	}
	sums, err := fileset.OpenIndex(b.engine.Store.Path(engine.SumsFile))
	if err != nil {
		return nil, err
	}
	defer sums.Close()
	trees := maps.Clone(in.named)
	trees[contextName] = in.tree
	worker := b.engine.Worker(local.Config{
		Contexts: trees,
		Sums:     sums, Secret: b.secret, SSH: b.ssh,
		Limits: b.limits, StepTimeout: b.opt.stepTimeout,
		Caches: b.mountOffers,
	})
	roots := plan.Nodes()
	if b.opt.verify != "" {
		roots = reachable(plan.Graph, roots)
	}
	var traces []solver.Trace
	found, err := b.solveWith(ctx, worker, roots, solver.Options{
		Index: b.engine.Store.Index(), Imports: imports(), Jobs: b.opt.jobs, Lock: b.engine.Store.Lock,
		Events: b.display.Solving(plan.Graph), Traced: func(t []solver.Trace) { traces = t; b.traced(t) },
	})
	if err != nil {
		return nil, err
	}
	all := results{}
	for i, id := range roots {
		all[id] = found[i]
	}
	if b.opt.verify != "" {
		if err := b.verify(ctx, worker, all, traces); err != nil {
			return nil, err
		}
	}
	if err := sums.Save(); err != nil {
		b.Logger().Warn("file digests could not be remembered", "error", err)
	}
	return all, nil
}

// contextName is the name that the frontend gives the build context.
const contextName = "context"

// failed adds the Dockerfile's lines to an error, and what can be done about it.
func (b *build) failed(err error, source []byte) error {
	hint := cli.HintOf(err)
	var serr *solver.Error
	var list frontend.ErrorList
	switch {
	case errors.As(err, &serr):
		if _, copying := serr.Node.Op.(solver.Copy); copying && hint == "" && errors.Is(err, fs.ErrPermission) {
			hint = "this user may not read it: change its permissions, or list it in .dockerignore"
		}
		if hint == "" && errors.Is(err, fs.ErrNotExist) && leadsOut(serr.Node) {
			hint = "the files are those of " + b.copiedFrom(serr.Node) + ", out of which .. does not lead"
		}
		err = &cli.ExcerptError{Err: err, Excerpt: frontend.Excerpt(source, serr.Node.Pos)}
	case errors.As(err, &list):
		if slices.ContainsFunc(list, func(e *frontend.Error) bool { return e.Hint != "" }) {
			hint = "" // the frontend knows better, and says so
		}
		err = &cli.ExcerptError{Err: errors.New(strings.TrimRight(frontend.Render(err, source), "\n"))}
	}
	if hint == "" {
		return err
	}
	return cli.WithHint(err, "%s", hint)
}

// leadsOut tells whether a COPY names a source above the tree that it copies from.
func leadsOut(n solver.Node) bool {
	if _, copying := n.Op.(solver.Copy); !copying {
		return false
	}
	words := strings.Fields(n.Name)
	return slices.ContainsFunc(words[:len(words)-1], func(word string) bool { return strings.HasPrefix(word, "../") })
}

// copiedFrom says in which tree a COPY looks for its files.
func (b *build) copiedFrom(n solver.Node) string {
	from := b.plan.Graph.Nodes[n.Inputs[len(n.Inputs)-1]]
	if local, ok := from.Op.(solver.Local); ok && local.Name == contextName {
		return "the build context"
	}
	return "what --from names"
}

// resolver finds base images for the frontend and shows that it does.
type resolver struct{ *build }

func (r *resolver) Resolve(ctx context.Context, ref string, p ocispec.Platform) (frontend.Base, error) {
	find := r.engine.Resolve
	if engine.IsLayout(ref) {
		find = r.engine.ResolveLayout
	} else {
		var err error
		if ref, err = r.policedImage(ref); err != nil {
			return frontend.Base{}, err
		}
	}
	policy := cmp.Or(engine.Policy(r.opt.pull), engine.PullMissing)
	step := r.display.Begin("[internal] load metadata for " + ref)
	found, err := find(ctx, ref, p, policy, r.display.Warn)
	if err != nil {
		if other := r.otherPlatform(ctx, ref, policy); other != nil {
			found, err = other, nil
		}
	}
	step.End(err)
	if err != nil {
		return frontend.Base{}, err
	}
	r.bases.add(found)
	return frontend.Base{
		Ref: found.Ref(), Digest: found.Image.Manifest.Digest,
		Config: found.Image.Config, Layers: found.Image.Layers,
	}, nil
}

// otherPlatform is the image in the store that ref names, if it is for one
// platform, whichever that is. A base that only exists for another platform is
// better than none: what is copied from it may do, and the frontend warns.
func (r *resolver) otherPlatform(ctx context.Context, ref string, policy engine.Policy) *engine.Resolved {
	if policy == engine.PullAlways || engine.IsLayout(ref) {
		return nil
	}
	found, err := r.engine.Resolve(ctx, ref, ocispec.Platform{}, engine.PullNever, r.display.Warn)
	if err != nil || found.Root.Digest != found.Image.Manifest.Digest {
		return nil
	}
	return found
}

// epochTime is the time that an epoch stands for, if any.
func epochTime(epoch *int64) *time.Time {
	if t, ok := solver.ModTime(epoch); ok {
		return &t
	}
	return nil
}

// hostPlatform is this machine's.
func hostPlatform() ocispec.Platform {
	return frontend.NormalizePlatform(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}
