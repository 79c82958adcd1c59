package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Options are what a runner needs to know.
type Options struct {
	// State is a directory for what running containers need. Every process that
	// uses the same one can sweep it.
	State string
	// Log gets diagnostics; nil discards them.
	Log *slog.Logger
}

// containers runs every process in a Linux container of its own, as root.
type containers struct {
	state   string
	log     *slog.Logger
	prepare func() error
}

// New returns the default runner: namespaces, control groups, capabilities and
// system call filters as docker has them, made by libcontainer. It costs nothing
// until something is started. The program must call [Init] first of all.
func New(opt Options) (Runner, error) {
	state, err := filepath.Abs(opt.State)
	if err != nil || opt.State == "" {
		return nil, errors.Join(errors.New("runner: no state directory"), err)
	}
	log := opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &containers{state: state, log: log, prepare: sync.OnceValue(func() error {
		// libcontainer warns on stderr through logrus' only logger; what makes it
		// fail is in its errors, too.
		logrus.SetOutput(io.Discard)
		// Package cgroups opens this directory once and for all. Opened by a thread
		// with mounts of its own it would be gone with them.
		if f, err := cgroups.OpenFile("/sys/fs/cgroup", "", unix.O_PATH|unix.O_DIRECTORY); err == nil {
			f.Close()
		}
		return Supported()
	})}, nil
}

// Start implements [Runner].
func (r *containers) Start(ctx context.Context, s Spec, stdio IO) (Process, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A path with links would not be found again in the list of mounts.
	if err := os.MkdirAll(r.state, 0o700); err != nil {
		return nil, err
	}
	state, err := filepath.EvalSymlinks(r.state)
	if err != nil {
		return nil, err
	}
	p := &process{spec: s, ended: make(chan struct{})}
	started := make(chan error, 1)
	onThread(func() { p.run(ctx, state, stdio, started) })
	if err := <-started; err != nil {
		return nil, explain(err, s)
	}
	return p, nil
}

// Supported tells why this process cannot run containers of its own, and what
// to do about it; nil if it can.
func Supported() error {
	caps, err := capability.NewPid2(0)
	if err == nil {
		err = caps.Load()
	}
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	for _, c := range []capability.Cap{
		capability.CAP_SYS_ADMIN, capability.CAP_SETUID, capability.CAP_SETGID, capability.CAP_SETPCAP,
		capability.CAP_MKNOD, capability.CAP_CHOWN, capability.CAP_DAC_OVERRIDE, capability.CAP_NET_ADMIN,
	} {
		if !caps.Get(capability.EFFECTIVE, c) {
			return unsupported("no CAP_"+strings.ToUpper(c.String()), "run lamina as root; in a container, start that with --privileged")
		}
	}
	if !seccomp.Enabled {
		return unsupported("built without system call filters", `build lamina with "-tags seccomp"`)
	}
	m, err := manager.New(&cgroups.Cgroup{Path: "lamina", Resources: &cgroups.Resources{}})
	if err != nil {
		return unsupported("no control groups that guard devices", "mount cgroup v2, or the devices controller of v1, at /sys/fs/cgroup")
	}
	for _, p := range m.GetPaths() {
		var st unix.Statfs_t
		if unix.Statfs(filepath.Dir(p), &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
			return unsupported(filepath.Dir(p)+" is read-only", "in a container, start that with --privileged")
		}
	}
	return nil
}

func unsupported(what, remedy string) error {
	return &unsupportedError{fmt.Sprintf("cannot run containers: %s (%s)", what, remedy)}
}

// unsupportedError is errors.ErrUnsupported, in words of its own.
type unsupportedError struct{ text string }

func (e *unsupportedError) Error() string { return e.text }
func (e *unsupportedError) Unwrap() error { return errors.ErrUnsupported }
