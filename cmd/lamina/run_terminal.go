package main

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"lamina/cmd/lamina/internal/cli"
	"lamina/runner"
)

// attach returns the streams of a container. The caller must call detach, which
// gives the terminal back as it was.
func attach(e *cli.Env, interactive, tty bool) (stdio runner.IO, detach func(), err error) {
	stdio.Stdout, stdio.Stderr = e.Stdout, e.Stderr
	if interactive {
		stdio.Stdin = e.Stdin
	}
	if !tty {
		return stdio, func() {}, nil
	}
	stdio.Terminal = true
	restore := func() {}
	if interactive {
		in, ok := e.Stdin.(*os.File)
		if !ok || !term.IsTerminal(int(in.Fd())) {
			return stdio, nil, cli.WithHint(errors.New("the input device is not a terminal"), "leave out -t")
		}
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return stdio, nil, err
		}
		restore = func() { _ = term.Restore(int(in.Fd()), before) }
	}
	sizes, stop := terminalSizes(e)
	stdio.Resize = sizes
	return stdio, func() { stop(); restore() }, nil
}

// terminalSizes delivers the size of our terminal, and each new one, until stop
// is called. If we have none, it delivers nothing.
func terminalSizes(e *cli.Env) (sizes <-chan runner.Size, stop func()) {
	var terminal *os.File
	for _, stream := range []any{e.Stdout, e.Stdin, e.Stderr} {
		if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			terminal = f
			break
		}
	}
	if terminal == nil {
		return nil, func() {}
	}
	out := make(chan runner.Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	done := make(chan struct{})
	var ended sync.WaitGroup
	if cols, rows, err := term.GetSize(int(terminal.Fd())); err == nil {
		out <- runner.Size{Rows: uint16(rows), Cols: uint16(cols)}
	}
	ended.Go(func() {
		for {
			select {
			case <-changed:
			case <-done:
				return
			}
			cols, rows, err := term.GetSize(int(terminal.Fd()))
			if err != nil {
				continue
			}
			select {
			case out <- runner.Size{Rows: uint16(rows), Cols: uint16(cols)}:
			case <-done:
				return
			}
		}
	})
	return out, func() {
		signal.Stop(changed)
		close(done)
		ended.Wait()
	}
}
