package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/engine"
	"lamina/cmd/lamina/internal/progress"
	"lamina/frontend"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
	"lamina/solver/local"
)

// buildOptions are the flags of "lamina build".
type buildOptions struct {
	file          string
	tags          []string
	targets       []string
	buildArgs     []string
	labels        []string
	secrets       []string
	outputs       []string
	platforms     []string
	addHosts      []string
	ulimits       []string
	noCacheFilter []string

	noCache, pull, push, load, quiet bool

	network, progress     string
	shmSize, memory       byteSize
	cpus                  float64
	jobs                  int
	iidFile, metadataFile string
}

func newBuild(e *env) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH | -",
		Short:   "Build an image from a Dockerfile",
		GroupID: groupCommon,
		Long: `Build an image from a Dockerfile and the files of a context.

The context is a directory, or "-" for a tar archive or a Dockerfile on the
standard input. The image goes into the store, under the names given by --tag,
unless --output says otherwise. Steps whose inputs did not change are taken from
the cache.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBuild(cmd.Context(), e, o, args[0])
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.file, "file", "f", "", "Name of the Dockerfile (default: PATH/Dockerfile); - for standard input")
	fs.StringArrayVarP(&o.tags, "tag", "t", nil, "Name of the image (name:tag); may be repeated")
	fs.StringArrayVar(&o.targets, "target", nil, "Stage to build; may be repeated")
	fs.StringArrayVar(&o.buildArgs, "build-arg", nil, "Value of an ARG (KEY=VALUE, or KEY to take it from the environment)")
	fs.StringArrayVar(&o.labels, "label", nil, "Label of the image (KEY=VALUE)")
	fs.StringArrayVar(&o.secrets, "secret", nil, "Secret for RUN --mount=type=secret (id=NAME[,src=FILE|,env=VARIABLE])")
	fs.StringArrayVarP(&o.outputs, "output", "o", nil, "Where the result goes (type=oci|docker|tar|local|image|registry|cacheonly,dest=PATH)")
	fs.StringSliceVar(&o.platforms, "platform", nil, "Platforms to build for")
	fs.StringArrayVar(&o.addHosts, "add-host", nil, "Line of /etc/hosts in RUN (HOST:IP)")
	fs.StringArrayVar(&o.ulimits, "ulimit", nil, "Limit of RUN (NAME=SOFT[:HARD])")
	fs.StringSliceVar(&o.noCacheFilter, "no-cache-filter", nil, "Stages to build without the cache")
	fs.BoolVar(&o.noCache, "no-cache", false, "Do not use the cache")
	fs.BoolVar(&o.pull, "pull", false, "Ask registries for base images that the store has")
	fs.BoolVar(&o.push, "push", false, "Push the image to the registries of its names")
	fs.BoolVar(&o.load, "load", false, "Accepted for docker's sake: the image is in the store anyway")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Print nothing but the image's ID")
	fs.StringVar(&o.network, "network", "default", "Network of RUN (default, none, host)")
	fs.StringVar(&o.progress, "progress", "", "Form of the progress display ("+progress.Modes()+")")
	fs.Var(&o.shmSize, "shm-size", "Size of /dev/shm in RUN")
	fs.VarP(&o.memory, "memory", "m", "Memory limit of a RUN")
	fs.Float64Var(&o.cpus, "cpus", 0, "Number of processors that a RUN may use")
	fs.IntVar(&o.jobs, "jobs", 0, "Number of steps to execute at once (default: no limit)")
	fs.StringVar(&o.iidFile, "iidfile", "", "File to write the image's ID to")
	fs.StringVar(&o.metadataFile, "metadata-file", "", "File to write the result's description to, as JSON")
	return cmd
}

// build is one run of "lamina build".
type build struct {
	*env
	opt     buildOptions
	engine  *engine.Engine
	display *steps
	plan    *frontend.Build
}

func runBuild(ctx context.Context, e *env, o buildOptions, contextArg string) (err error) {
	outputs, err := parseOutputs(o, e.stdoutIsTerminal())
	if err != nil {
		return err
	}
	b := &build{env: e, opt: o}
	if b.display, err = newSteps(e, o.progress, o.quiet, "Building"); err != nil {
		return err
	}
	defer b.display.Close()
	if b.engine, err = e.openEngine(ctx, b.display.transfer); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.engine.Close()) }()

	in, err := b.openInput(ctx, contextArg)
	if err != nil {
		return err
	}
	defer in.Close()
	results, err := b.solve(ctx, in)
	if err != nil {
		return b.failed(err, in.source)
	}
	settled := b.engine.Settle()
	defer settled()
	made, err := b.export(ctx, results, outputs)
	if err != nil {
		return err
	}
	b.display.Close()
	return b.tell(made)
}

// solve lowers the Dockerfile and computes what it asks for: the result of every
// node that stands behind an image's history.
func (b *build) solve(ctx context.Context, in *input) (map[solver.ID]solver.Result, error) {
	opt, err := b.loweringOptions(in)
	if err != nil {
		return nil, err
	}
	file, err := frontend.Parse(in.name, in.source)
	if err != nil {
		return nil, err
	}
	plan, err := frontend.Lower(ctx, file, &resolver{b}, opt)
	if err != nil {
		return nil, err
	}
	b.plan = plan
	for _, w := range plan.Warnings {
		b.display.warn(fmt.Sprintf("%s: %s (%s:%d)", w.Rule, w.Text, w.Pos.File, w.Pos.First))
	}
	sums, err := fileset.OpenIndex(b.engine.Store.Path("sums"))
	if err != nil {
		return nil, err
	}
	secret, err := parseSecrets(b.opt.secrets, b.getenv)
	if err != nil {
		return nil, err
	}
	limits, err := b.limits()
	if err != nil {
		return nil, err
	}
	worker := b.engine.Worker(local.Config{
		Contexts: map[string]snapshot.Tree{contextName: in.tree},
		Sums:     sums, Secret: secret, Limits: limits,
	})
	roots := plan.Nodes()
	found, err := solver.Solve(ctx, plan.Graph, roots, worker, solver.Options{
		Index: b.engine.Store.Index(), Jobs: b.opt.jobs, Lock: b.engine.Store.Lock,
		Events: b.display.solving(plan.Graph),
	})
	if err != nil {
		return nil, err
	}
	if err := sums.Save(); err != nil {
		b.logger().Warn("file digests could not be remembered", "error", err)
	}
	results := map[solver.ID]solver.Result{}
	for i, id := range roots {
		results[id] = found[i]
	}
	return results, nil
}

// contextName is the name that the frontend gives the build context.
const contextName = "context"

func (b *build) loweringOptions(in *input) (frontend.Options, error) {
	o := b.opt
	opt := frontend.Options{
		BuildPlatform: hostPlatform(), Targets: o.targets,
		NoCache: o.noCache, NoCacheFilter: o.noCacheFilter,
		Network: o.network, ShmSize: int64(o.shmSize), Ulimits: o.ulimits,
	}
	var err error
	if opt.BuildArgs, err = keyValues("build-arg", o.buildArgs, b.getenv); err != nil {
		return opt, err
	}
	// As docker does: what reproducible builds set in the environment is meant.
	if epoch := b.getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		if _, given := opt.BuildArgs["SOURCE_DATE_EPOCH"]; !given {
			opt.BuildArgs["SOURCE_DATE_EPOCH"] = epoch
		}
	}
	if opt.Labels, err = keyValues("label", o.labels, nil); err != nil {
		return opt, err
	}
	if opt.Hosts, err = hosts(o.addHosts); err != nil {
		return opt, err
	}
	if !oneOf(o.network, "", "default", "none", "host") {
		return opt, fmt.Errorf("--network=%s: RUN knows default, none and host", o.network)
	}
	if o.network == "default" {
		opt.Network = ""
	}
	platforms := o.platforms
	if p := b.getenv("DOCKER_DEFAULT_PLATFORM"); len(platforms) == 0 && p != "" {
		platforms = []string{p}
	}
	for _, s := range platforms {
		p, err := frontend.ParsePlatform(s)
		if err != nil {
			return opt, fmt.Errorf("--platform: %w", err)
		}
		opt.Platforms = append(opt.Platforms, p)
	}
	return opt, nil
}

func (b *build) limits() (runner.Limits, error) {
	l := runner.Limits{Memory: int64(b.opt.memory), CPUs: b.opt.cpus}
	if b.opt.cpus < 0 {
		return l, fmt.Errorf("--cpus=%g: must not be negative", b.opt.cpus)
	}
	return l, nil
}

// failed adds the Dockerfile's lines to an error.
func (b *build) failed(err error, source []byte) error {
	var serr *solver.Error
	if errors.As(err, &serr) {
		return &excerptError{err, frontend.Excerpt(source, serr.Node.Pos)}
	}
	var list frontend.ErrorList
	if errors.As(err, &list) {
		return &excerptError{errors.New(strings.TrimRight(frontend.Render(err, source), "\n")), ""}
	}
	return err
}

// resolver finds base images for the frontend and shows that it does.
type resolver struct{ *build }

func (r *resolver) Resolve(ctx context.Context, ref string, p ocispec.Platform) (frontend.Base, error) {
	policy := engine.PullMissing
	if r.opt.pull {
		policy = engine.PullAlways
	}
	step := r.display.begin("[internal] load metadata for " + ref)
	found, err := r.engine.Resolve(ctx, ref, p, policy, r.display.warn)
	step.end(err)
	if err != nil {
		return frontend.Base{}, err
	}
	return frontend.Base{
		Ref: found.Name.String(), Digest: found.Image.Manifest.Digest,
		Config: found.Image.Config, Layers: found.Image.Layers,
	}, nil
}

// hostPlatform is this machine's.
func hostPlatform() ocispec.Platform {
	return frontend.NormalizePlatform(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}

// keyValues parses KEY=VALUE flags. A KEY alone is looked up with getenv, and
// means nothing if it is not set; where getenv is nil it stands for KEY="".
func keyValues(flag string, all []string, getenv func(string) string) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range all {
		k, v, ok := strings.Cut(s, "=")
		if k == "" {
			return nil, fmt.Errorf("--%s=%s: there is no name before the \"=\"", flag, s)
		}
		if !ok && getenv != nil {
			if v = getenv(k); v == "" {
				continue
			}
		}
		m[k] = v
	}
	return m, nil
}

// hosts turns docker's HOST:IP or HOST=IP into "name=address".
func hosts(all []string) ([]string, error) {
	var out []string
	for _, s := range all {
		name, addr, ok := strings.Cut(s, "=")
		if !ok {
			name, addr, ok = strings.Cut(s, ":")
		}
		addr = strings.Trim(addr, "[]")
		if !ok || name == "" || !isAddress(addr) {
			return nil, fmt.Errorf("--add-host=%s: want HOST:IP", s)
		}
		out = append(out, name+"="+addr)
	}
	return out, nil
}

func oneOf(s string, all ...string) bool {
	for _, a := range all {
		if s == a {
			return true
		}
	}
	return false
}

// epochTime is the time that an epoch stands for, if any.
func epochTime(epoch *int64) *time.Time {
	if t, ok := solver.ModTime(epoch); ok {
		return &t
	}
	return nil
}
