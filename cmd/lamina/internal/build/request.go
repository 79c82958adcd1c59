package build

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/policy"
	"lamina/frontend"
	"lamina/runner"
	"lamina/solver/local"
)

// request is what a command line asks "lamina build" for. It is checked as a whole
// before anything is done: nobody waits an hour for a build to learn that its name
// cannot be one.
type request struct {
	opt      buildOptions
	context  string // the argument
	call     *call  // nil: build
	lowering frontend.Options
	// locals are the directories of named contexts, by the names of their nodes.
	locals   map[string]string
	outputs  []output
	removals []removal
	attests  attests
	caches   caches
	// timestamp, if set, is the time of the image and of every file that was made.
	timestamp *time.Time
	limits    runner.Limits
	policy    *policy.Policy
	secret    func(id string) ([]byte, error)
	ssh       func(id string) (local.SSHAgent, error)
}

// newRequest checks the command line of a build. Its errors are those of the
// command line.
func newRequest(e *cli.Env, o buildOptions, context string) (*request, error) {
	r := &request{opt: o, context: context}
	switch {
	case context == "":
		return nil, errors.New("the context is the empty string: is a variable not set?")
	case context == "-" && o.file == "-":
		return nil, errors.New("the context and the Dockerfile cannot both come from the standard input")
	case o.cpus < 0:
		return nil, fmt.Errorf("--cpus=%g: must not be negative", o.cpus)
	case o.jobs < 0:
		return nil, fmt.Errorf("--jobs=%d: must not be negative", o.jobs)
	case o.timeout < 0 || o.stepTimeout < 0:
		return nil, errors.New("--timeout and --step-timeout must not be negative")
	case !cli.OneOf(o.network, "", "default", "none", "host"):
		return nil, fmt.Errorf("--network=%s: RUN knows default, none and host", o.network)
	}
	var err error
	if r.limits, err = o.limits(); err != nil {
		return nil, err
	}
	if r.call, err = parseCall(o.call); err != nil {
		return nil, fmt.Errorf("--call=%s: %w", o.call, err)
	}
	if r.outputs, err = parseOutputs(o, e.StdoutIsTerminal()); err != nil {
		return nil, err
	}
	if r.lowering, err = loweringOptions(o, e.LookupEnv); err != nil {
		return nil, err
	}
	if r.lowering.Contexts, r.locals, err = parseContexts(o.contexts); err != nil {
		return nil, err
	}
	if r.removals, err = parseUnset(o.unset); err != nil {
		return nil, err
	}
	if r.timestamp, err = parseEpoch(o.timestamp); err != nil {
		return nil, fmt.Errorf("--timestamp=%s: %w", o.timestamp, err)
	}
	if r.caches, err = parseCaches(o.cacheOptions, r.lowering.BuildArgs); err != nil {
		return nil, err
	}
	if r.attests, err = parseAttests(o.resultOptions); err != nil {
		return nil, err
	}
	if err := r.checkResult(); err != nil {
		return nil, err
	}
	if r.policy, err = readPolicy(o.policy, e.Getenv); err != nil {
		return nil, err
	}
	if r.secret, err = parseSecrets(o.secrets, e.LookupEnv); err != nil {
		return nil, err
	}
	if r.ssh, err = parseSSH(o.ssh, e.Getenv); err != nil {
		return nil, err
	}
	return r, nil
}

// checkResult refuses flags about the result that contradict each other.
func (r *request) checkResult() error {
	o := r.opt
	switch {
	case o.noCache && o.verify != "":
		return errors.New("--no-cache and --verify-cache exclude each other: nothing would be cached")
	case o.squash && o.squashAll:
		return errors.New("--squash and --squash-all exclude each other")
	case o.timestamp != "" && (o.epoch != "" || o.rewriteTimestamp):
		return errors.New("--timestamp excludes --source-date-epoch and --rewrite-timestamp: it says all that they do")
	}
	seen := map[string]string{}
	for _, t := range o.targets {
		key := strings.ToLower(t)
		if first, twice := seen[key]; twice {
			return fmt.Errorf("--target=%s: it was given before, as %s", t, first)
		}
		seen[key] = t
	}
	return nil
}

func loweringOptions(o buildOptions, lookup func(string) (string, bool)) (frontend.Options, error) {
	opt := frontend.Options{
		BuildPlatform: hostPlatform(), Targets: o.targets,
		NoCache: o.noCache, NoCacheFilter: o.noCacheFilter,
		Network: o.network, ShmSize: int64(o.shmSize), Ulimits: o.ulimits,
	}
	if o.network == "default" {
		opt.Network = ""
	}
	var err error
	if opt.BuildArgs, err = buildArgs(o, lookup); err != nil {
		return opt, err
	}
	if opt.Labels, err = keyValues("label", o.labels, nil); err != nil {
		return opt, err
	}
	if opt.Hosts, err = buildHosts(o.addHosts); err != nil {
		return opt, err
	}
	if opt.Allow, err = parseAllow(o.allow, o.network); err != nil {
		return opt, err
	}
	if opt.Mounts, err = parseVolumes(o.volumes); err != nil {
		return opt, err
	}
	for _, s := range o.ulimits {
		if _, err := runner.ParseUlimit(s); err != nil {
			return opt, fmt.Errorf("--%w", err)
		}
	}
	platforms, source := o.platforms, "--platform"
	if p, _ := lookup("DOCKER_DEFAULT_PLATFORM"); len(platforms) == 0 && p != "" {
		platforms, source = []string{p}, "DOCKER_DEFAULT_PLATFORM"
	}
	for _, s := range platforms {
		p, err := cli.ParsePlatform(source, s)
		if err != nil {
			return opt, err
		}
		opt.Platforms = append(opt.Platforms, p)
	}
	return opt, nil
}

// keyValues parses KEY=VALUE flags. A KEY alone is looked up, and
// means nothing if it is not set; where lookup is nil it stands for KEY="".
func keyValues(flag string, all []string, lookup func(string) (string, bool)) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range all {
		k, v, ok := strings.Cut(s, "=")
		if k == "" {
			return nil, fmt.Errorf("--%s=%s: there is no name before the \"=\"", flag, s)
		}
		if !ok && lookup != nil {
			if v, ok = lookup(k); !ok {
				continue
			}
		}
		m[k] = v
	}
	return m, nil
}
