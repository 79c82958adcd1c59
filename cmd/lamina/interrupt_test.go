package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"lamina/cache/registry/registrytest"
	"lamina/cmd/lamina/internal/cli"
)

// program returns a command that executes this test as one of the programs of
// TestMain, with a store of its own.
func program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "LAMINA_ROOT="+filepath.Join(dir, "store"))
	return cmd
}

// The first signal ends what is going on in order, with a code of its own.
func TestInterrupt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		reg := registrytest.New(t)
		asked := make(chan struct{})
		once := sync.OnceFunc(func() { close(asked) })
		reg.Inject("", -1, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			once()
			<-r.Context().Done()
		})
		cmd := program(t, "lamina", "pull", "--progress=none", reg.Host+"/app")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != cli.ExitInterrupted {
			t.Errorf("%v: it ended with %v, want exit code %d", sig, err, cli.ExitInterrupted)
		}
		if got, want := stderr.String(), "lamina: interrupted\n"; got != want {
			t.Errorf("%v: stderr is %q, want %q", sig, got, want)
		}
	}
}

// stuck is a program that does not react to its context.
func stuck() {
	ctx, stop := interruptible()
	defer stop()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("canceled")
	select {}
}

// The second signal ends the process at once, whatever it is doing.
func TestInterruptTwice(t *testing.T) {
	cmd := program(t, "stuck")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for _, want := range []string{"ready", "canceled"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("it says %q, want %q", lines.Text(), want)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want death by SIGINT", err)
	}
}
