package runner

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"
)

// initPath is where Spec.Init shows this program inside the container: in /dev,
// which is the container's own and never part of a layer.
const initPath = "/dev/init"

// checkInit tells whether this program can run in a container, where the
// libraries are another system's.
func checkInit(self string) error {
	f, err := elf.Open(self)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("no init can be run: this lamina is linked dynamically, its init is lamina itself")
		}
	}
	return nil
}

// superviseCommand is the minimal init: it starts args as its child, passes
// signals on to it, collects orphans, and returns the child's exit code.
func superviseCommand(args []string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	name, err := exec.LookPath(args[0])
	if err == nil {
		var child *os.Process
		child, err = os.StartProcess(name, args, &os.ProcAttr{
			Env:   os.Environ(),
			Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		})
		if err == nil {
			go passSignals(signals, child.Pid)
			return reap(child.Pid)
		}
	}
	code := 126
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = 127
	}
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err // without its own prefix
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
	return code
}

func passSignals(signals <-chan os.Signal, pid int) {
	for s := range signals {
		if s == unix.SIGCHLD || s == unix.SIGURG { // the latter is the Go runtime's own
			continue
		}
		_ = unix.Kill(pid, s.(unix.Signal)) // an ended child is reap's business
	}
}

// reap waits for every child, the adopted ones too, until pid has ended.
func reap(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || (err == nil && got != pid):
			continue
		case err != nil:
			return 255
		case status.Signaled():
			return 128 + int(status.Signal())
		}
		return status.ExitStatus()
	}
}
