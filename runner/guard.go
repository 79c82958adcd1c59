package runner

/*
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

// Runs before main, in C, because starting the Go runtime costs more than all
// that the guard does.
__attribute__((constructor)) static void lamina_guard(void)
{
	char byte;
	sigset_t all;

	if (getenv("_LAMINA_GUARD") == NULL)
		return;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (read(3, &byte, 1) < 0 && errno == EINTR)
		;
	syscall(SYS_pidfd_send_signal, 4, SIGKILL, NULL, 0);
	_exit(0);
}
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// guard is a small process that kills a container when lamina dies, however it
// dies. The kernel's parent death signal is not enough: the command may clear its
// own, and executing a setuid program does.
//
// It reads a pipe whose only writer is lamina, and at the pipe's end sends SIGKILL
// through a pidfd, which can never mean another process.
type guard struct {
	alive *os.File // the pipe's writer
	cmd   *exec.Cmd
}

// newGuard guards the process behind pidfd.
func newGuard(pidfd *os.File) (*guard, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"lamina-guard"},
		Env:         []string{"_LAMINA_GUARD=1"},
		Dir:         "/",
		ExtraFiles:  []*os.File{r, pidfd},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, // a signal for lamina's group is not for the guard
	}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start the guard process: %w", err)
	}
	return &guard{alive: w, cmd: cmd}, nil
}

// close ends the guard, which kills what it guards if that still lives.
func (g *guard) close() {
	g.alive.Close()
	_ = g.cmd.Wait() // it has nothing to report
}
