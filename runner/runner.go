// Package runner executes processes over snapshots: a [Spec] says what, a
// [Runner] does it, and the [Process] is waited for.
//
// A Spec is data. Its mounts are performed by the runner in a mount namespace
// of its own, so that nothing stays mounted when lamina is killed.
package runner

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Spec is a process and its surroundings, a plain value.
type Spec struct {
	// ID names the container: unique among those running, at most 64 of [a-z0-9-].
	// Control groups carry it, so that what a killed lamina left can be found.
	ID string
	// Root makes the root filesystem; the mount on "/" comes first.
	Root []snapshot.Mount
	// ReadOnly makes the root filesystem read-only to the process.
	ReadOnly bool
	// Mounts are added inside the root, in order, after /proc, /dev, /sys and the
	// network's files. The Source of a bind is absolute, or "name:path" for a path
	// inside Roots[name], or ":path" for one inside Root, whose links are followed
	// inside that root; such a bind has the option "file" if that is no directory.
	// A tmpfs also knows "ro" and "noexec"; its mode is that of its target unless
	// an option says otherwise.
	Mounts []snapshot.Mount
	// Roots are more root filesystems, by name, of which binds show parts.
	Roots map[string][]snapshot.Mount
	// Files are bound into the root after Mounts.
	Files []File

	Args []string
	// Env is "key=value"; an absent PATH is filled in, and an absent or empty HOME
	// with that of the root's first user of the same number.
	Env []string
	Dir string // absolute; made if it is missing
	// OwnDir makes a missing Dir, and what is missing above it, belong to User, as
	// docker build does, instead of 0:0.
	OwnDir bool
	// User is "user[:group]" by name or number, looked up in the root.
	User string
	// Hostname is "lamina" if it is empty.
	Hostname string
	// OwnHostname leaves /etc/hostname to the root, as docker build does.
	OwnHostname bool
	// Network is "host" or "none".
	Network string
	// Hosts are lines for /etc/hosts: "address name".
	Hosts []string

	Limits Limits
	// CapAdd and CapDrop change docker's default set of capabilities.
	CapAdd, CapDrop []string
	// Insecure drops every restriction: all capabilities, no seccomp, no masks, any
	// device; /sys is writable.
	Insecure bool
	// Ambient keeps the capabilities for a User who is not root, and for what that
	// executes.
	Ambient bool
	// HostDevices shows every device of this machine, but terminals.
	HostDevices bool
	// Devices are shown, and may be used, besides docker's few.
	Devices []Device
	// NoNewPrivileges forbids gaining privileges by exec.
	NoNewPrivileges bool
	// Init runs a minimal init as process 1.
	Init bool
	// StopSignal is sent when the context ends, ten seconds before SIGKILL; 0 is
	// SIGKILL at once.
	StopSignal int
}

// Ulimit is one resource limit of the process.
type Ulimit struct {
	Name       string // "nofile"
	Soft, Hard int64  // -1 is unlimited
}

// IO connects the process. A nil stream is /dev/null.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal gives the process a terminal of its own, connected to Stdin and
	// Stdout; Resize, if not nil, delivers its sizes.
	Terminal bool
	Resize   <-chan Size
}

// Size is a terminal's, in characters.
type Size struct{ Rows, Cols uint16 }

// Runner starts processes. Implementations are safe for concurrent use.
type Runner interface {
	// Start starts s. When ctx ends, every process of the container is killed.
	// An error means that nothing was started and nothing is left; it is a
	// *CommandError if the reason is the command itself.
	Start(ctx context.Context, s Spec, io IO) (Process, error)

	// Sweep removes what killed processes left behind, of this runner's kind, and
	// never anything that belongs to a living one.
	Sweep(ctx context.Context) error
}

// Process is a started container.
type Process interface {
	// Pid is that of the first process, in lamina's own pid namespace.
	Pid() int
	// Signal sends sig to the first process.
	Signal(sig os.Signal) error
	// Wait waits until the first process has ended, every other was killed, its
	// output was delivered and nothing is mounted any more. It is an *ExitError
	// unless the exit status is 0. It must be called once.
	Wait() error
}

// ExitError reports how a process ended.
type ExitError struct {
	// Code is the exit status, 128+n after signal n.
	Code int
	// Signal is what killed it, or 0.
	Signal int
	// OutOfMemory is set if the kernel killed a process of the container because it
	// exceeded Limits.Memory, or because this machine has no more.
	OutOfMemory bool
	limited     bool // there was such a limit
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("exit code %d", e.Code)
	name := unix.SignalName(unix.Signal(e.Code - 128)) // also what a shell says of its child
	switch {
	case e.OutOfMemory && e.limited:
		return "killed for exceeding its memory limit (" + text + ")"
	case e.OutOfMemory:
		return "killed because this machine has no more memory (" + text + ")"
	case e.Code == 128+int(unix.SIGKILL):
		return text + ", killed by SIGKILL (out of memory?)"
	case name != "":
		return text + ", ended by " + name
	}
	return text
}

// CommandError reports that the command could not be executed: Code is 127 if
// it was not found, 126 if it is not executable.
type CommandError struct {
	Code int
	Err  error
}

func (e *CommandError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *CommandError) Unwrap() error { return e.Err }
