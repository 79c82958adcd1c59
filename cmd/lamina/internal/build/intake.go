package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/cmd/lamina/internal/intake"
	"lamina/cmd/lamina/internal/progress"
	"lamina/frontend"
)

// intakeOptions are the flags of "lamina context".
type intakeOptions struct {
	buildOptions
	explain   []string
	allStages bool
	format    string
}

// NewContext returns the command "lamina context".
func NewContext(e *cli.Env) *cobra.Command {
	var o intakeOptions
	cmd := &cobra.Command{
		Use:     "context [OPTIONS] PATH | URL | -",
		Short:   "Show what a build takes from its context",
		GroupID: cli.GroupCommon,
		Long: `Show what a build takes from its context.

For each COPY, ADD and bind mount of the stages that would be built: how many files
it takes; the largest files, what the ignore file keeps away and by which rules, what
nobody copies, and ignore files that are not read. Nothing is built, no file's content
is read, and base images are only looked for in the store.`,
		Args: cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cli.OneOf(o.format, "", "text", "json") {
				return &cli.UsageError{Cmd: cmd, Err: fmt.Errorf("--format=%s: want text or json", o.format)}
			}
			req, err := newRequest(e, o.buildOptions, args[0])
			if err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			return runIntake(cmd.Context(), e, req, o)
		},
	}
	f := cmd.Flags()
	o.registerSources(f)
	f.StringArrayVar(&o.secrets, "secret", nil, "Secret for a context from Git (id=NAME[,src=FILE|,env=VARIABLE])")
	f.StringArrayVar(&o.ssh, "ssh", nil, "SSH agent for a context from Git (default|ID[=SOCKET|=KEY[,KEY]])")
	f.StringArrayVar(&o.explain, "explain", nil, "Path to tell of: which rules match it, and what copies it; may be repeated")
	f.BoolVar(&o.allStages, "all-stages", false, "Count the stages too that the target does not need")
	f.StringVar(&o.format, "format", "text", "Form of the report (text, json)")
	return cmd
}

func runIntake(ctx context.Context, e *cli.Env, req *request, o intakeOptions) (err error) {
	b := &build{Env: e, request: req, started: time.Now().UTC()}
	if b.display, err = cli.NewSteps(e, string(progress.None), false, ""); err != nil {
		return err
	}
	defer b.display.Close()
	if b.engine, err = e.OpenEngine(ctx, b.display); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.CloseEngine(ctx, b.engine)) }()
	in, err := b.openInput(ctx, req.context)
	if err != nil {
		return err
	}
	defer in.Close()
	b.opt.pull = cmp.Or(b.opt.pull, pullPolicy(engine.PullNever))
	bases := &storeBases{build: b}
	plan, err := b.planIntake(ctx, in, bases, o.allStages)
	if err != nil {
		return b.failed(err, in.source)
	}
	report, err := intake.Make(ctx, b.intakeRequest(in, plan, o.explain))
	if err != nil {
		return err
	}
	report.Notes = bases.notes()
	if o.format == "json" {
		err = e.SayJSON(report)
	} else {
		err = report.WriteText(e.Stdout)
	}
	return errors.Join(err, report.Err())
}

// planIntake lowers the Dockerfile; with every, all of its stages.
func (b *build) planIntake(ctx context.Context, in *input, bases frontend.Resolver, every bool) (*frontend.Build, error) {
	file, err := frontend.Parse(in.name, in.source)
	if err != nil {
		return nil, err
	}
	if every {
		stages, err := frontend.Targets(in.name, in.source)
		if err != nil {
			return nil, err
		}
		b.lowering.Targets = nil
		for i := range stages {
			b.lowering.Targets = append(b.lowering.Targets, strconv.Itoa(i))
		}
	}
	b.lowering.Allow = frontend.Allow{NetworkHost: true, Insecure: true} // nothing is run
	return frontend.Lower(ctx, file, bases, b.lowering)
}

// intakeRequest is what the report is to be about: the build context first.
func (b *build) intakeRequest(in *input, plan *frontend.Build, explain []string) intake.Request {
	r := intake.Request{Graph: plan.Graph, Dockerfile: shown(in.name), Explain: explain}
	for _, t := range plan.Targets {
		r.Roots = append(r.Roots, t.Root)
	}
	main := in.hiding[contextName].intake()
	main.Name, main.Source, main.Remote = contextName, shown(b.context), in.remote
	switch {
	case in.remote:
		main.Tree, r.Inside = in.tree, in.name
	case in.name != "-" && !isHTTP(in.name):
		var ok bool
		if r.Inside, ok = inside(b.context, in.name); !ok {
			main.Beside = filepath.Dir(in.name)
		}
	}
	r.Contexts = append(r.Contexts, main)
	for _, name := range slices.Sorted(maps.Keys(b.locals)) {
		c := in.hiding[name].intake()
		c.Name, c.Label, c.Source = name, name, b.locals[name]
		r.Contexts = append(r.Contexts, c)
	}
	return r
}

func (h hiding) intake() intake.Context {
	return intake.Context{Tree: h.all, Rules: h.rules, IgnoreFile: h.file, IgnorePath: h.path}
}

// storeBases finds base images in the store, or wherever --pull allows. Without one
// it makes do: hardly anything that is copied from a context depends on it.
type storeBases struct {
	*build
	mu   sync.Mutex
	told []string
}

// Resolve implements [frontend.Resolver].
func (s *storeBases) Resolve(ctx context.Context, ref string, p ocispec.Platform) (frontend.Base, error) {
	found, err := (&resolver{s.build}).Resolve(ctx, ref, p)
	if err == nil || ctx.Err() != nil {
		return found, err
	}
	why := "cannot be had: " + err.Error()
	if errors.Is(err, fs.ErrNotExist) && s.opt.pull == pullPolicy(engine.PullNever) {
		why = "is not in the store, and --pull was not given"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf("the variables and ONBUILD instructions of %s are not considered: it %s", ref, why))
	return frontend.Base{Ref: ref, Config: dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: p}}}, nil
}

// notes say which bases are not known.
func (s *storeBases) notes() []string {
	slices.Sort(s.told)
	return slices.Compact(s.told)
}
