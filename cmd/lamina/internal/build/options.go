package build

import (
	"time"

	"github.com/spf13/pflag"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/cmd/lamina/internal/progress"
)

// buildOptions are the flags of "lamina build", as they were given.
type buildOptions struct {
	sourceOptions
	callOptions
	stepOptions
	cacheOptions
	resultOptions
	displayOptions
}

// register adds all flags to f, with their defaults.
func (o *buildOptions) register(f *pflag.FlagSet) {
	o.sourceOptions.register(f)
	o.callOptions.register(f)
	o.stepOptions.register(f)
	o.cacheOptions.register(f)
	o.resultOptions.register(f)
	o.displayOptions.register(f)
}

// sourceOptions say what is built.
type sourceOptions struct {
	contexts      []string
	file          string
	targets       []string
	buildArgs     []string
	buildArgFiles []string
	platforms     []string
	pull          pullPolicy
	policy        string
	watch         bool
}

func (o *sourceOptions) register(f *pflag.FlagSet) {
	o.registerSources(f)
	f.BoolVar(&o.watch, "watch", false, "Build again whenever something that the build reads has changed")
	f.StringVar(&o.policy, "policy", "", "Source policy: a JSON file of rules that allow, deny or replace images and URLs")
}

// registerSources adds the flags that other questions about what is built have too.
func (o *sourceOptions) registerSources(f *pflag.FlagSet) {
	f.StringVarP(&o.file, "file", "f", "", "Name of the Dockerfile (default: PATH/Dockerfile); - for standard input")
	f.StringArrayVar(&o.contexts, "build-context", nil, "What stands for a stage or an image (NAME=DIRECTORY|URL|docker-image://IMAGE|oci-layout://DIRECTORY)")
	f.StringArrayVar(&o.targets, "target", nil, "Stage to build; may be repeated")
	f.StringArrayVar(&o.buildArgs, "build-arg", nil, "Value of an ARG (KEY=VALUE, or KEY to take it from the environment)")
	f.StringArrayVar(&o.buildArgFiles, "build-arg-file", nil, "File with values of ARGs, as lines KEY=VALUE")
	f.StringSliceVar(&o.platforms, "platform", nil, "Platforms to build for")
	f.Var(&o.pull, "pull", "When to ask registries for base images (always, missing, never, newer); always if no value is given")
	f.Lookup("pull").NoOptDefVal = string(engine.PullAlways)
}

// callOptions say what is asked instead of building.
type callOptions struct{ call string }

func (o *callOptions) register(f *pflag.FlagSet) {
	f.Var(&callFlag{value: &o.call}, "call", "What to do: build, or tell of the Dockerfile: check,\noutline, targets (METHOD[,format=json])")
	f.Var(&callFlag{value: &o.call, fixed: "check"}, "check", "Check the Dockerfile and build nothing (short for --call=check)")
	f.Lookup("check").NoOptDefVal = "true"
}

// stepOptions say how RUN steps are executed.
type stepOptions struct {
	secrets     []string
	ssh         []string
	addHosts    []string
	network     string
	allow       []string
	volumes     []string
	jobs        int
	timeout     time.Duration
	stepTimeout time.Duration
	limitOptions
	classicOptions
}

func (o *stepOptions) register(f *pflag.FlagSet) {
	f.StringArrayVar(&o.secrets, "secret", nil, "Secret for RUN --mount=type=secret (id=NAME[,src=FILE|,env=VARIABLE])")
	f.StringArrayVar(&o.ssh, "ssh", nil, "SSH agent for RUN --mount=type=ssh and git (default|ID[=SOCKET|=KEY[,KEY]])")
	f.StringArrayVar(&o.addHosts, "add-host", nil, "Line of /etc/hosts in RUN (HOST:IP, or HOST:host-gateway)")
	f.StringVar(&o.network, "network", "default", "Network of RUN (default, none, host)")
	f.StringArrayVar(&o.allow, "allow", nil, "Permission for what is dangerous (network.host, security.insecure,\n"+localDelete+")")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Directory or file of this machine that every RUN has (SOURCE:TARGET[:ro|:O])")
	f.IntVar(&o.jobs, "jobs", 0, "Number of steps to execute at once (default: no limit)")
	f.DurationVar(&o.timeout, "timeout", 0, "How long the build may take, such as 30m (default: for ever)")
	f.DurationVar(&o.stepTimeout, "step-timeout", 0, "How long each RUN may take (default: for ever)")
	o.limitOptions.register(f)
	o.classicOptions.register(f)
}

// cacheOptions say what earlier builds' results are good for.
type cacheOptions struct {
	noCache       bool
	noCacheFilter []string
	cacheFrom     []string
	cacheTo       []string
	verify        verifyFlag
}

func (o *cacheOptions) register(f *pflag.FlagSet) {
	f.BoolVar(&o.noCache, "no-cache", false, "Do not use the cache")
	f.Var(&o.verify, "verify-cache", "Execute cached steps again too, and fail if one comes out otherwise\n(true, or times if times of files count)")
	f.Lookup("verify-cache").NoOptDefVal = "true"
	f.StringSliceVar(&o.noCacheFilter, "no-cache-filter", nil, "Stages to build without the cache")
	f.StringArrayVar(&o.cacheFrom, "cache-from", nil, "Cache of earlier builds to use (IMAGE, type=registry,ref=IMAGE, type=local,src=DIR)")
	f.StringArrayVar(&o.cacheTo, "cache-to", nil, "Where this build's cache goes (type=registry,ref=IMAGE[,mode=max], type=local,dest=DIR, type=inline)")
}

// displayOptions say what is shown meanwhile.
type displayOptions struct {
	progress string
	quiet    bool
	explain  explainFlag
}

func (o *displayOptions) register(f *pflag.FlagSet) {
	f.Var((*cli.ProgressFlag)(&o.progress), "progress", "Form of the progress display ("+progress.Modes()+")")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Print nothing but the image's ID")
	f.Var(&o.explain, "explain", "Say afterwards why steps were executed (text, json); text if no value is given")
	f.Lookup("explain").NoOptDefVal = explainText
}
