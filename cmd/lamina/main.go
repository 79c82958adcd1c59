// Lamina builds images from Dockerfiles, keeps them, runs them and moves them,
// without a daemon. This package is flags, wiring and exit codes: one file a
// command, and no build logic.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"lamina/cmd/lamina/internal/cli"
	"lamina/runner"
)

func main() {
	runner.Init() // returns at once unless this process is to become a container
	os.Exit(realMain())
}

// realMain runs the command line of this process and returns its exit code.
func realMain() int {
	log.SetOutput(io.Discard) // x/crypto's ssh agent logs what its clients did wrong
	ctx, stop := interruptible()
	defer stop()
	e := &cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, Version: version}
	return execute(ctx, e, os.Args[1:])
}

// interruptible returns a context that the first signal cancels, so that
// everything is undone in order. From then on signals mean again what they mean
// by default: a second one ends the process at once. (signal.NotifyContext
// cancels first, and would swallow a second signal that comes soon.)
func interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
