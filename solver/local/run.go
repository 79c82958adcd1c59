package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lamina/runner"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// hostNetwork is what a RUN gets that names no network.
const hostNetwork = "host"

// narrowRun identifies the parts of other trees that bind mounts show. A mount of
// a whole tree is identified by the tree's own identity: hashing all of it would
// cost more than it can save.
func (w *Worker) narrowRun(ctx context.Context, t solver.Task, op solver.Run) ([]solver.Identity, error) {
	var read []solver.Identity
	for _, m := range op.Mounts {
		if m.Type != solver.MountBind || m.Input == 0 || relative(m.Source) == "." {
			continue
		}
		if read == nil {
			read = make([]solver.Identity, len(t.Inputs))
		}
		id, err := w.narrowMount(ctx, t.Inputs[m.Input], m)
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Target, err)
		}
		read[m.Input] = combine(read[m.Input], id)
	}
	return read, nil
}

// narrowMount identifies what one mount shows. Nobody will read all of that once
// more, so what it is made of is listed now; it is not a live source.
func (w *Worker) narrowMount(ctx context.Context, in solver.Result, m solver.RunMount) (solver.Identity, error) {
	files, err := newTable(ctx, w.Store)
	if err != nil {
		return solver.Identity{}, err
	}
	defer files.close()
	id, err := w.identify(ctx, in, fileset.Query{Paths: []string{literal(m.Source)}}, fileset.DigestOptions{Table: files.add})
	if err != nil {
		return solver.Identity{}, err
	}
	id.Memo = nil
	id.Parts, err = files.commit()
	return id, err
}

// combine is the identity of two parts of the same input.
func combine(a, b solver.Identity) solver.Identity {
	if a.Digest == "" {
		return b
	}
	return solver.Identity{
		Digest: a.Digest.Algorithm().FromString(a.Digest.String() + " " + b.Digest.String()),
		Parts:  append(a.Parts, b.Parts...),
	}
}

// relative is name as trees have it.
func relative(name string) string {
	if name = strings.Trim(name, "/"); name == "" {
		return "."
	}
	return name
}

// literal keeps the characters of name from being taken for a pattern.
func literal(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(relative(name))
}

// run executes a process and keeps what it changed as a layer.
func (w *Worker) run(ctx context.Context, t solver.Task, op solver.Run, out solver.Output) (_ []snapshot.Layer, err error) {
	stack, err := w.Unpack(ctx, t.Inputs[0].Layers, out)
	if err != nil {
		return nil, err
	}
	drv, err := w.Driver()
	if err != nil {
		return nil, err
	}
	run, err := w.Runner()
	if err != nil {
		return nil, err
	}
	p := &prepared{worker: w, driver: drv, spec: runner.Spec{
		ID:   string(newID()),
		Args: op.Args, Env: append(append([]string(nil), op.Env...), op.ProxyEnv...),
		Dir: op.Dir, OwnDir: true, User: op.User,
		Hostname: op.Hostname, OwnHostname: true, Network: op.Network, Hosts: hostLines(op.Hosts),
		Limits: w.Limits,
	}}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.spec.Network == "" {
		p.spec.Network = hostNetwork
	}
	if op.Security == "insecure" {
		p.spec.Insecure, p.spec.Ambient, p.spec.Devices = true, true, runner.BuildDevices()
	}
	if op.ShmSize != 0 {
		p.spec.Limits.ShmSize = op.ShmSize
	}
	if p.spec.Limits.Ulimits, err = ulimits(w.Limits.Ulimits, op.Ulimits); err != nil {
		return nil, err
	}
	if err := p.claimCaches(ctx, t, op.Mounts, out); err != nil {
		return nil, err
	}
	for _, m := range op.Mounts {
		if err := p.mount(ctx, t, m, out); err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	for _, f := range op.Files {
		p.spec.Files = append(p.spec.Files, runner.File{Target: pipesDir + f.Name, Data: []byte(f.Data), Mode: 0o755})
	}
	tx, err := drv.Begin(ctx, stack, keepKernel(runner.Targets(p.spec)))
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	p.spec.Root = tx.Mounts()
	shown := redacting(out, p.secrets)
	begin := time.Now()
	if err := errors.Join(w.execute(ctx, run, p.spec, shown), shown.flush()); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	id := newID()
	if err := tx.Commit(ctx, id); err != nil {
		return nil, err
	}
	w.list(ctx, id, took/listShare)
	return onTop(t.Inputs[0], id), nil
}

// listShare is what part of the time that a command took may be spent on listing what
// it made. Nobody notices a fiftieth.
const listShare = 50

// list lists the files of a new layer, if that takes no longer than budget: then
// "lamina fsck" can tell damage to them. Others are listed when they are packed.
func (w *Worker) list(ctx context.Context, id snapshot.ID, budget time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	_ = w.Pool.MakeList(ctx, id) // there need be none
}

// keepKernel marks the mount points of the kernel's filesystems. An image that
// lacks them gets them with its first RUN, as from docker.
func keepKernel(targets []snapshot.Target) []snapshot.Target {
	for i := range targets {
		switch targets[i].Path {
		case "/proc", "/dev", "/sys":
			targets[i].Keep = true
		}
	}
	return targets
}

// pipesDir is where the here-documents of a RUN are.
const pipesDir = "/dev/pipes/"

// TimeoutError reports a RUN that was ended because it took too long.
type TimeoutError struct{ Limit time.Duration }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("not finished after %v, the limit of a step", e.Limit)
}

// execute runs spec, whose input is an empty pipe, until it ends or takes too long.
func (w *Worker) execute(ctx context.Context, run runner.Runner, spec runner.Spec, out solver.Output) error {
	if w.StepTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, w.StepTimeout, &TimeoutError{w.StepTimeout})
		defer cancel()
	}
	proc, err := run.Start(ctx, spec, runner.IO{Stdin: strings.NewReader(""), Stdout: out, Stderr: out})
	if err != nil {
		return err
	}
	err = proc.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// hostLines turns "name=address" into lines of /etc/hosts.
func hostLines(hosts []string) []string {
	var lines []string
	for _, h := range hosts {
		name, addr, _ := strings.Cut(h, "=")
		lines = append(lines, addr+" "+name)
	}
	return lines
}

// ulimits parses "name=soft[:hard]" and puts them above the defaults.
func ulimits(defaults []runner.Ulimit, own []string) ([]runner.Ulimit, error) {
	all := append([]runner.Ulimit(nil), defaults...)
	for _, s := range own {
		u, err := runner.ParseUlimit(s)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}
