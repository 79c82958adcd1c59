// Lamina builds images from Dockerfiles, keeps them, runs them and moves them,
// without a daemon. This package is flags, wiring and exit codes: one file a
// command, and no build logic.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"lamina/runner"
)

func main() {
	runner.Init() // returns at once unless this process is to become a container
	os.Exit(realMain())
}

// realMain runs the command line of this process and returns its exit code.
func realMain() int {
	// The first signal cancels the context, so that everything is undone in
	// order; then signals mean again what they mean by default, so that a second
	// one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)

	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	return execute(ctx, e, os.Args[1:])
}
