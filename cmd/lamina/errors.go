package main

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
	exitFailure     = 1
	exitUsage       = 2
	exitTimeout     = 124 // as timeout(1) has it
	exitInterrupted = 130
)

// failureCode is the annotation of a command whose own failures, wrong usage
// included, have another exit code than the usual.
const failureCode = "failure-code"

// usageError says that the command line is wrong.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitError ends lamina with a code of the command's choice. Without Err
// everything has been said already.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return "exit code " + strconv.Itoa(e.Code)
	}
	return e.Err.Error()
}
func (e *exitError) Unwrap() error { return e.Err }

// hintError adds what the reader of an error can do.
type hintError struct {
	error
	hint string
}

func (e *hintError) Hint() string  { return e.hint }
func (e *hintError) Unwrap() error { return e.error }

// withHint adds what can be done about err, as a line of its own.
func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// excerptError is an error that names a place in a Dockerfile, with the lines
// around it.
type excerptError struct {
	err     error
	excerpt string // whole lines; empty if the error has them
}

func (e *excerptError) Error() string { return e.err.Error() }
func (e *excerptError) Unwrap() error { return e.err }

// exitCode is the one place where an error becomes an exit code. ctx is the
// context that a signal ends.
func exitCode(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if code, aerr := strconv.Atoi(cmd.Annotations[failureCode]); aerr == nil {
		return code
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	var late *local.TimeoutError
	if errors.As(err, &late) {
		return exitTimeout
	}
	return exitFailure
}

// report tells err to people: one line, the Dockerfile's lines or a hint if there
// are any, and for a wrong command line how it should look.
func report(ctx context.Context, w io.Writer, err error) {
	var exit *exitError
	if errors.As(err, &exit) && exit.Err == nil {
		return
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		fmt.Fprintln(w, "lamina: interrupted")
		return
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			report(ctx, w, one)
		}
		return
	}
	var excerpt *excerptError
	if errors.As(err, &excerpt) { // begins with the Dockerfile's name
		fmt.Fprintf(w, "%v\n%s", err, excerpt.excerpt)
	} else {
		fmt.Fprintf(w, "lamina: %v\n", err)
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		if usage.cmd.HasParent() {
			fmt.Fprintf(w, "\nUsage:  %s\n", useLine(usage.cmd))
		}
		fmt.Fprintf(w, "\nRun '%s --help' for more information\n", usage.cmd.CommandPath())
	}
}

// hintOf is what can be done about err; empty if nobody knows.
func hintOf(err error) string {
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
