package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"lamina/cmd/lamina/internal/cli"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/solver"
)

// containerSpec is what an image and the command line say together. Its root is
// still missing.
func containerSpec(e *cli.Env, o runOptions, id string, image dockerspec.DockerOCIImage, args []string) (runner.Spec, error) {
	s := runner.Spec{
		ID: id, ReadOnly: o.readOnly, Dir: cmp.Or(o.dir, image.Config.WorkingDir),
		User: cmp.Or(o.user, image.Config.User), Hostname: o.hostname, Network: o.network,
		CapAdd: o.capAdd, CapDrop: o.capDrop, Insecure: o.privileged, HostDevices: o.privileged, Init: o.init,
	}
	if s.Dir != "" && !path.IsAbs(s.Dir) {
		return s, fmt.Errorf("--workdir=%s: must be absolute", s.Dir)
	}
	var err error
	if s.Args, err = containerArgs(o, image.Config, args); err != nil {
		return s, err
	}
	if s.Hostname == "" {
		if s.Hostname, err = containerHostname(o.network, id); err != nil {
			return s, err
		}
	}
	if s.Env, err = containerEnv(e, o, image.Config.Env, s.Hostname); err != nil {
		return s, err
	}
	if s.Mounts, err = containerMounts(o, image.Config.Volumes); err != nil {
		return s, err
	}
	if s.Limits, err = containerLimits(o); err != nil {
		return s, err
	}
	added, err := cli.Hosts(o.addHosts)
	if err != nil {
		return s, err
	}
	for _, h := range added {
		name, addr, _ := strings.Cut(h, "=")
		s.Hosts = append(s.Hosts, addr+" "+name)
	}
	for _, opt := range o.security {
		if !cli.OneOf(opt, "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true") {
			return s, fmt.Errorf("--security-opt=%s: only no-new-privileges is supported", opt)
		}
		s.NoNewPrivileges = true
	}
	return s, nil
}

// containerArgs joins ENTRYPOINT and CMD by docker's rules: an entrypoint from
// the command line, even an empty one, drops the image's CMD too.
func containerArgs(o runOptions, config dockerspec.DockerOCIImageConfig, args []string) ([]string, error) {
	entrypoint := config.Entrypoint
	switch {
	case o.setEntrypoint && o.entrypoint != "":
		entrypoint = []string{o.entrypoint}
	case o.setEntrypoint:
		entrypoint = nil
	case len(args) == 0:
		args = config.Cmd
	}
	all := slices.Concat(entrypoint, args)
	if len(all) == 0 {
		return nil, cli.WithHint(errors.New("no command to run: the image has neither CMD nor ENTRYPOINT"), "add a command after the image")
	}
	return all, nil
}

// containerHostname is the beginning of the ID, or this machine's name in this
// machine's network.
func containerHostname(network, id string) (string, error) {
	if network == "host" {
		return os.Hostname()
	}
	return id[:12], nil
}

// containerEnv is the image's environment, changed by files first and flags then.
func containerEnv(e *cli.Env, o runOptions, image []string, hostname string) ([]string, error) {
	env := []string{"HOSTNAME=" + hostname}
	if o.tty {
		env = append(env, "TERM=xterm")
	}
	set := func(s string) {
		name, _, valued := strings.Cut(s, "=")
		env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
		if !valued {
			// A name alone is this environment's variable; if there is none, the image's
			// is not the container's either.
			value, set := e.LookupEnv(name)
			if !set {
				return
			}
			s = name + "=" + value
		}
		env = append(env, s)
	}
	for _, kv := range image {
		set(kv)
	}
	for _, file := range o.envFiles {
		lines, err := readEnvFile(file)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			set(l)
		}
	}
	for _, s := range o.env {
		if s == "" || s[0] == '=' {
			return nil, fmt.Errorf("--env=%s: there is no name", s)
		}
		set(s)
	}
	return env, nil
}

// readEnvFile reads NAME=VALUE and NAME, one a line, as docker does: values are
// taken as they are, and lines that begin with # are comments.
func readEnvFile(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	defer f.Close()
	var all []string
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for n := 1; scanner.Scan(); n++ {
		line := scanner.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, _ := strings.Cut(line, "=")
		if key == "" || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("--env-file: %s:%d: %q is not the name of a variable", name, n, key)
		}
		all = append(all, line)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("--env-file: %s: %w", name, err)
	}
	return all, nil
}

func containerLimits(o runOptions) (runner.Limits, error) {
	l := runner.Limits{Memory: int64(o.memory), ShmSize: int64(o.shmSize), CPUs: o.cpus, Pids: max(0, o.pids)} // docker's -1 is no limit
	for _, s := range o.ulimits {
		u, err := runner.ParseUlimit(s)
		if err != nil {
			return l, err
		}
		l.Ulimits = append(l.Ulimits, u)
	}
	return l, nil
}

// containerMounts are the mounts of the command line, but for caches, and the image's
// volumes that none of them replaces; the outer before the inner.
func containerMounts(o runOptions, volumes map[string]struct{}) ([]snapshot.Mount, error) {
	var mounts []snapshot.Mount
	for _, v := range o.volumes {
		m, err := volumeMount(v)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	for _, t := range o.tmpfs {
		m, err := tmpfsMount(t)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	others, caches, err := parseMounts(o.mounts)
	if err != nil {
		return nil, err
	}
	mounts = append(mounts, others...)
	for v := range volumes {
		v = path.Clean("/" + v)
		if !slices.ContainsFunc(mounts, func(m snapshot.Mount) bool { return m.Target == v }) &&
			!slices.ContainsFunc(caches, func(m solver.RunMount) bool { return m.Target == v }) {
			mounts = append(mounts, anonymousVolume(v))
		}
	}
	return ordered(mounts)
}

// ordered sorts mounts so that the outer are before the inner, and refuses those
// that hide each other.
func ordered(mounts []snapshot.Mount) ([]snapshot.Mount, error) {
	depth := func(m snapshot.Mount) int { return strings.Count(m.Target, "/") }
	slices.SortStableFunc(mounts, func(a, b snapshot.Mount) int {
		return cmp.Or(cmp.Compare(depth(a), depth(b)), cmp.Compare(a.Target, b.Target))
	})
	for i, m := range mounts {
		if i > 0 && mounts[i-1].Target == m.Target {
			return nil, fmt.Errorf("two mounts on %s", m.Target)
		}
		if m.Target == "/" {
			return nil, errors.New("nothing can be mounted on /")
		}
	}
	return mounts, nil
}

// anonymousVolume is a volume that begins as what the image has there and is
// thrown away with the container. So is the container's whole root, which is why
// a part of that is as good, as long as it is a mount of its own: it stays
// writable where the root is not.
func anonymousVolume(target string) snapshot.Mount {
	return snapshot.Mount{Type: "bind", Source: ":" + target, Target: target}
}

// volumeMount reads -v [SOURCE:]TARGET[:OPTIONS].
func volumeMount(v string) (snapshot.Mount, error) {
	wrong := func(format string, args ...any) (snapshot.Mount, error) {
		return snapshot.Mount{}, fmt.Errorf("--volume=%s: %s", v, fmt.Sprintf(format, args...))
	}
	parts := strings.Split(v, ":")
	if len(parts) > 3 {
		return wrong("want [SOURCE:]TARGET[:OPTIONS]")
	}
	target := parts[min(1, len(parts)-1)]
	if !path.IsAbs(target) {
		return wrong("the target %q is not absolute", target)
	}
	m := anonymousVolume(path.Clean(target))
	if len(parts) == 1 {
		return m, nil
	}
	source := parts[0]
	if !strings.ContainsAny(source, "/.") {
		return wrong("named volumes are not supported: use a directory (./%s)", source)
	}
	var err error
	if m.Source, err = filepath.Abs(source); err != nil {
		return wrong("%v", err)
	}
	m.Options = []string{"rbind"}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.Options = append(m.Options, "ro")
			case "rw", "z", "Z", "rprivate", "private", "nocopy", "cached", "delegated", "consistent":
				// How it is anyway, or a matter of other systems.
			default:
				return wrong("unknown option %q", o)
			}
		}
	}
	// As docker does. It is not an error if the source is a file.
	if _, err := os.Stat(m.Source); errors.Is(err, os.ErrNotExist) {
		err = os.MkdirAll(m.Source, 0o755)
		if err != nil {
			return wrong("%v", err)
		}
	}
	return m, nil
}

// tmpfsMount reads --tmpfs TARGET[:OPTIONS].
func tmpfsMount(t string) (snapshot.Mount, error) {
	target, options, _ := strings.Cut(t, ":")
	if !path.IsAbs(target) {
		return snapshot.Mount{}, fmt.Errorf("--tmpfs=%s: the target %q is not absolute", t, target)
	}
	m := snapshot.Mount{Type: "tmpfs", Target: path.Clean(target)}
	noexec, mode := true, false
	for o := range strings.SplitSeq(options, ",") {
		switch {
		case o == "exec":
			noexec = false
		case cli.OneOf(o, "", "rw", "nosuid", "nodev", "noexec"):
		default:
			mode = mode || strings.HasPrefix(o, "mode=")
			m.Options = append(m.Options, o)
		}
	}
	if noexec {
		m.Options = append(m.Options, "noexec")
	}
	if !mode {
		m.Options = append(m.Options, "mode=1777")
	}
	return m, nil
}
