package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/exporter"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/solver/local"
)

// exitRun is how "lamina run" ends if it, and not its container, fails; docker's.
const exitRun = 125

type runOptions struct {
	interactive, tty          bool
	env, envFiles             []string
	volumes, tmpfs, mounts    []string
	dir, user, hostname       string
	entrypoint                string
	setEntrypoint             bool
	network                   string
	addHosts                  []string
	memory, shmSize           cli.ByteSize
	cpus                      float64
	pids                      int64
	ulimits                   []string
	capAdd, capDrop, security []string
	privileged, readOnly      bool
	init                      bool
	pull, platform            string
	quiet                     bool
}

func newRun(e *cli.Env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:         "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short:       "Run a command in a new container from an image",
		GroupID:     cli.GroupCommon,
		Args:        cli.MinArgs(1),
		Annotations: map[string]string{cli.FailureCode: strconv.Itoa(exitRun)},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.setEntrypoint = cmd.Flags().Changed("entrypoint")
			return runRun(cmd.Context(), e, o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the image is the container's
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open")
	f.BoolVarP(&o.tty, "tty", "t", false, "Give the container a terminal")
	f.Bool("rm", true, "Remove the container when it ends; it always is")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set an environment variable (NAME=VALUE, or NAME for this environment's)")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "Read environment variables from a file")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Mount a directory or file ([SOURCE:]TARGET[:ro])")
	f.StringArrayVar(&o.tmpfs, "tmpfs", nil, "Mount a filesystem in memory (TARGET[:OPTIONS])")
	f.StringArrayVar(&o.mounts, "mount", nil, "Mount a cache, directory or file (type=cache|bind|tmpfs|volume,target=TARGET,...)")
	f.StringVarP(&o.dir, "workdir", "w", "", "Working directory inside the container")
	f.StringVarP(&o.user, "user", "u", "", "User (NAME|UID[:GROUP|GID])")
	f.StringVar(&o.hostname, "hostname", "", "Host name of the container")
	f.StringVar(&o.entrypoint, "entrypoint", "", "Replace the image's ENTRYPOINT")
	f.StringVar(&o.network, "network", "host", `Network: "host" or "none"`)
	f.StringArrayVar(&o.addHosts, "add-host", nil, "Add a line to /etc/hosts (HOST:IP)")
	f.VarP(&o.memory, "memory", "m", "Memory limit")
	f.Float64Var(&o.cpus, "cpus", 0, "Number of processors")
	f.Int64Var(&o.pids, "pids-limit", 0, "Number of processes and threads")
	f.Var(&o.shmSize, "shm-size", "Size of /dev/shm")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "Resource limit (NAME=SOFT[:HARD])")
	f.StringArrayVar(&o.capAdd, "cap-add", nil, "Add a Linux capability")
	f.StringArrayVar(&o.capDrop, "cap-drop", nil, "Drop a Linux capability")
	f.StringArrayVar(&o.security, "security-opt", nil, `Security option: "no-new-privileges"`)
	f.BoolVar(&o.privileged, "privileged", false, "Give the container every privilege, and this machine's devices")
	f.BoolVar(&o.readOnly, "read-only", false, "Make the root filesystem read-only")
	f.BoolVar(&o.init, "init", false, "Run an init that passes signals on and collects processes")
	f.StringVar(&o.pull, "pull", string(engine.PullMissing), "When to pull the image: always, missing or never")
	f.StringVar(&o.platform, "platform", "", cli.PlatformUsage)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Do not show the progress of a pull")
	return cmd
}

// runRun runs a container in the foreground. Nothing is kept of it.
func runRun(ctx context.Context, e *cli.Env, o runOptions, ref string, args []string) (err error) {
	display, err := cli.NewSteps(e, "", o.quiet, "Pulling")
	if err != nil {
		return err
	}
	defer display.Close()
	eng, err := e.OpenEngine(ctx, display)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := e.CloseEngine(ctx, eng); err == nil {
			err = cerr
		}
	}()
	run, err := eng.Runner()
	if err != nil {
		return err
	}
	img, err := runImage(ctx, e, eng, display, o, ref)
	if err != nil {
		return err
	}
	spec, err := containerSpec(e, o, newContainerID(), img.Config, args)
	if err != nil {
		return err
	}
	release, err := mountCaches(ctx, eng, display, o, ref, &spec)
	if err != nil {
		return err
	}
	defer func() {
		if rerr := release(); err == nil {
			err = rerr
		}
	}()
	tx, err := writableRoot(ctx, eng, display, img, runner.Targets(spec))
	if err != nil {
		return err
	}
	defer tx.Close()
	settled := eng.Settle()
	defer settled()
	display.Close()
	spec.Root = tx.Mounts()
	if err := eng.UseOnly("container "+spec.ID[:12], spec); err != nil {
		return err
	}
	return inForeground(ctx, e, o, run, spec)
}

// mountCaches adds the caches of --mount to a container, and puts its mounts in order.
// release gives the caches back.
func mountCaches(ctx context.Context, eng *engine.Engine, display *cli.Steps, o runOptions, ref string, spec *runner.Spec) (release func() error, err error) {
	_, caches, err := parseMounts(o.mounts)
	if err != nil {
		return nil, err
	}
	said := &waitingFor{display: display}
	release, err = eng.Worker(local.Config{}).MountCaches(ctx, spec, caches, "lamina run "+ref, said)
	said.end(err)
	if err != nil {
		return nil, err
	}
	if spec.Mounts, err = ordered(spec.Mounts); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// runImage finds the image in the store, by name or ID, or pulls it.
func runImage(ctx context.Context, e *cli.Env, eng *engine.Engine, display *cli.Steps, o runOptions, ref string) (exporter.Image, error) {
	policy := engine.Policy(o.pull)
	if !cli.OneOf(o.pull, string(engine.PullAlways), string(engine.PullMissing), string(engine.PullNever)) {
		return exporter.Image{}, fmt.Errorf("--pull=%s: want always, missing or never", o.pull)
	}
	platform, err := e.Platform(o.platform)
	if err != nil {
		return exporter.Image{}, err
	}
	if policy != engine.PullAlways {
		images, err := openCatalog(eng.Store)
		if err != nil {
			return exporter.Image{}, err
		}
		stored, err := images.find(ctx, ref)
		if err == nil && o.platform == "" {
			return stored.Image, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return exporter.Image{}, err
		}
	}
	step := display.Transfers("pulling " + ref)
	found, err := eng.Resolve(ctx, ref, platform, policy, display.Warn)
	if err == nil && !found.Here {
		_, err = eng.Pull(ctx, found)
	}
	step.End(err)
	if err != nil {
		return exporter.Image{}, err
	}
	return found.Image, nil
}

// writableRoot returns a filesystem of img that nothing is kept of.
func writableRoot(ctx context.Context, eng *engine.Engine, display *cli.Steps, img exporter.Image, targets []snapshot.Target) (snapshot.Tx, error) {
	end := func(error) {}
	if slices.ContainsFunc(img.Layers, func(l snapshot.Layer) bool {
		_, err := eng.Pool.Find(l.DiffID)
		return err != nil
	}) {
		end = display.Transfers("unpacking layers").End
	}
	ids, err := eng.Worker(local.Config{}).Unpack(ctx, img.Layers, nil)
	end(err)
	if err != nil {
		return nil, err
	}
	driver, err := eng.Driver()
	if err != nil {
		return nil, err
	}
	return driver.Begin(ctx, ids, targets)
}

func newContainerID() string {
	var id [32]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// inForeground connects the container to our streams and signals until it ends.
// From then on a signal is the container's business: it does not cancel anything.
func inForeground(ctx context.Context, e *cli.Env, o runOptions, run runner.Runner, spec runner.Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stdio, detach, err := attach(e, o.interactive, o.tty)
	if err != nil {
		return err
	}
	defer detach()
	signals := make(chan os.Signal, 128)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	p, err := run.Start(context.WithoutCancel(ctx), spec, stdio)
	if err == nil {
		ended := make(chan struct{})
		go forward(p, signals, ended)
		err = p.Wait()
		close(ended)
	}
	var exit *runner.ExitError
	var command *runner.CommandError
	switch {
	case errors.As(err, &command):
		return &cli.ExitError{Code: command.Code, Err: command}
	case errors.As(err, &exit) && exit.OutOfMemory:
		return &cli.ExitError{Code: exit.Code, Err: cli.WithHint(exit, "give it more with --memory")}
	case errors.As(err, &exit) && err == error(exit):
		return &cli.ExitError{Code: exit.Code}
	}
	return err
}

// insist is how many times somebody has to ask the container to end until it is
// killed: process 1 of a container ignores the signals that it does not handle.
const insist = 3

// forward passes signals on to the container until it has ended.
func forward(p runner.Process, signals <-chan os.Signal, ended <-chan struct{}) {
	for asked := 0; ; {
		select {
		case s := <-signals:
			if s == os.Interrupt || s == syscall.SIGTERM {
				if asked++; asked == insist {
					s = os.Kill
				}
			}
			_ = p.Signal(s) // it may have ended
		case <-ended:
			return
		}
	}
}

// forwarded are the signals that are the container's: all but those that are
// about this process itself, its children and its terminal.
func forwarded() []os.Signal {
	var all []os.Signal
	for s := syscall.Signal(1); s < 32; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCHLD,
			syscall.SIGPIPE, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGPROF,
			syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGSYS:
		default:
			all = append(all, s)
		}
	}
	return all
}
