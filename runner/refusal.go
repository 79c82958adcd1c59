package runner

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// refusal tells that the kernel did not execute the command. By then libcontainer
// has closed every pipe to us and prints to the container's own standard error. It
// prints to this pipe instead, of which the command has nothing: it is closed when
// that is executed.
type refusal struct{ from, to *os.File }

// refusalFd is the pipe's descriptor in the process that becomes the container:
// the first of its extra files.
const refusalFd = 3

func newRefusal() (refusal, error) {
	r, w, err := os.Pipe()
	return refusal{r, w}, err
}

// inInit makes what libcontainer prints go into the pipe.
func (refusal) inInit() {
	unix.CloseOnExec(refusalFd)
	os.Stderr = os.NewFile(refusalFd, "refusal")
}

// wait waits until the command is executed, and returns why it is not. Whoever
// started the process must have closed its end.
func (r refusal) wait() error {
	text, err := io.ReadAll(r.from)
	if err != nil || len(text) == 0 {
		return err
	}
	reason := strings.TrimSpace(string(text))
	path, cause, _ := strings.Cut(strings.TrimPrefix(reason, "exec "), ": ")
	switch cause {
	case unix.ENOENT.Error(): // the command itself was found before
		return &CommandError{Code: 127, Err: fmt.Errorf("%s: the interpreter that it names is missing", path)}
	case unix.ENOEXEC.Error():
		return &CommandError{Code: 126, Err: fmt.Errorf("%s: %s: neither a program for this machine nor a script that names its interpreter", path, cause)}
	}
	return &CommandError{Code: 126, Err: fmt.Errorf("%s: %s", path, cause)}
}

func (r refusal) close() {
	r.from.Close()
	r.to.Close()
}
