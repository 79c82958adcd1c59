package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lamina/cache/registry"
	"lamina/solver/local"
)

// Exit codes. "lamina run" passes its container's code through and, as docker
// does, uses 125 for its own failures.
const (
	exitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2
	ExitTimeout     = 124 // as timeout(1) has it
	ExitInterrupted = 130
)

// FailureCode is the annotation of a command whose own failures, wrong usage
// included, have another exit code than the usual.
const FailureCode = "failure-code"

// UsageError says that the command line is wrong.
type UsageError struct {
	Cmd *cobra.Command
	Err error
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ExitError ends lamina with a code of the command's choice. Without Err
// everything has been said already.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return "exit code " + strconv.Itoa(e.Code)
	}
	return e.Err.Error()
}
func (e *ExitError) Unwrap() error { return e.Err }

// hintError adds what the reader of an error can do.
type hintError struct {
	error
	hint string
}

func (e *hintError) Hint() string  { return e.hint }
func (e *hintError) Unwrap() error { return e.error }

// WithHint adds what can be done about err, as a line of its own.
func WithHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// ExcerptError is an error that names a place in a Dockerfile, with the lines
// around it.
type ExcerptError struct {
	Err     error
	Excerpt string // whole lines; empty if the error has them
}

func (e *ExcerptError) Error() string { return e.Err.Error() }
func (e *ExcerptError) Unwrap() error { return e.Err }

// ExitCode is the one place where an error becomes an exit code. ctx is the
// context that a signal ends.
func ExitCode(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if ctx.Err() != nil {
		return ExitInterrupted
	}
	if code, aerr := strconv.Atoi(cmd.Annotations[FailureCode]); aerr == nil {
		return code
	}
	var usage *UsageError
	if errors.As(err, &usage) {
		return ExitUsage
	}
	var late *local.TimeoutError
	if errors.As(err, &late) {
		return ExitTimeout
	}
	return ExitFailure
}

// Report tells err to people: one line, the Dockerfile's lines or a hint if there
// are any, and for a wrong command line how it should look.
func Report(ctx context.Context, w io.Writer, err error) {
	var exit *ExitError
	if errors.As(err, &exit) && exit.Err == nil {
		return
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		fmt.Fprintln(w, "lamina: interrupted")
		return
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			Report(ctx, w, one)
		}
		return
	}
	var excerpt *ExcerptError
	if errors.As(err, &excerpt) { // begins with the Dockerfile's name
		fmt.Fprintf(w, "%v\n%s", err, excerpt.Excerpt)
	} else {
		fmt.Fprintf(w, "lamina: %v\n", err)
	}
	if hint := HintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	var usage *UsageError
	if errors.As(err, &usage) {
		if usage.Cmd.HasParent() {
			fmt.Fprintf(w, "\nUsage:  %s\n", UseLine(usage.Cmd))
		}
		fmt.Fprintf(w, "\nRun '%s --help' for more information\n", usage.Cmd.CommandPath())
	}
}

// HintOf is what can be done about err; empty if nobody knows.
func HintOf(err error) string {
	var hint interface{ Hint() string }
	if errors.As(err, &hint) && hint.Hint() != "" {
		return hint.Hint()
	}
	var reg *registry.Error
	if errors.As(err, &reg) && reg.Hint != "" {
		return reg.Hint
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return "there is no space left on the disk: 'lamina prune' frees what nothing needs"
	}
	return ""
}

// UseLine is how cmd is called: "lamina tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]".
func UseLine(cmd *cobra.Command) string {
	if cmd.HasParent() {
		return cmd.Parent().CommandPath() + " " + cmd.Use
	}
	return cmd.Use
}
