package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"lamina/snapshot/mount"
)

// stopGrace is how long a process may take to end after Spec.StopSignal.
const stopGrace = 10 * time.Second

// process is a container. One goroutine, locked to a thread with a mount
// namespace of its own, owns all of it from before the first mount until nothing
// is left; the kernel kills the container when that thread dies.
type process struct {
	spec      Spec
	bundle    bundle
	container *libcontainer.Container
	init      *libcontainer.Process
	stdio     *stdio
	pidfd     *os.File
	guard     *guard
	foreign   *ForeignError // why it may not start; nil if it will

	pid   int
	ended chan struct{} // closed when all is over and err is set
	err   error
}

// run is the whole life of the container. It reports on started once.
func (p *process) run(ctx context.Context, state string, want IO, started chan<- error) {
	if err := p.start(state, want); err != nil {
		started <- errors.Join(err, p.release())
		return
	}
	undo := context.AfterFunc(ctx, p.stop)
	started <- nil
	exit := p.wait()
	undo()
	output := p.stdio.wait()
	if err := errors.Join(output, p.release()); err != nil {
		exit = errors.Join(exit, err)
	}
	p.err = exit
	close(p.ended)
}

// wait waits for the first process; the kernel kills the others with it.
func (p *process) wait() error {
	state, err := p.init.Wait()
	if state == nil {
		return fmt.Errorf("wait for the container: %w", err)
	}
	status := state.Sys().(syscall.WaitStatus)
	exit := &ExitError{Code: status.ExitStatus(), limited: p.spec.Limits.Memory > 0}
	if status.Signaled() {
		exit.Signal = int(status.Signal())
		exit.Code = 128 + exit.Signal
	}
	if exit.Code == 0 {
		return nil
	}
	exit.OutOfMemory, err = outOfMemory(p.bundle.cgroups)
	if err != nil {
		return errors.Join(exit, fmt.Errorf("read the memory control group: %w", err))
	}
	return exit
}

// release frees everything, in whatever state p is.
func (p *process) release() error {
	var errs []error
	if p.init != nil && p.pid != 0 {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.init.Wait() // an error if it was waited for already
	}
	if p.container != nil {
		errs = append(errs, p.container.Destroy())
	}
	if p.guard != nil {
		p.guard.close()
	}
	if p.pidfd != nil {
		p.pidfd.Close()
	}
	if p.stdio != nil {
		p.stdio.close()
	}
	if p.bundle.lock != nil {
		errs = append(errs, mount.Undo(p.bundle.dir))
		if errors.Join(errs...) == nil { // otherwise Sweep must find what is left
			errs = append(errs, p.bundle.remove())
		} else {
			p.bundle.lock.Close()
		}
	}
	return errors.Join(errs...)
}

// stop ends the container because its context ended.
func (p *process) stop() {
	if p.spec.StopSignal != 0 && p.Signal(syscall.Signal(p.spec.StopSignal)) == nil {
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case <-p.ended:
			return
		case <-grace.C:
		}
	}
	_ = p.Signal(unix.SIGKILL) // an error if it has ended
}

// Pid implements [Process].
func (p *process) Pid() int { return p.pid }

// Signal implements [Process].
func (p *process) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("unknown signal %v", sig)
	}
	err := control(p.pidfd, func(fd int) error { return unix.PidfdSendSignal(fd, s, nil, 0) })
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Wait implements [Process].
func (p *process) Wait() error {
	<-p.ended
	return p.err
}
