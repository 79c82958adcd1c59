package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lamina/runner"
)

// While a step has a secret, no file of the store and no process' arguments have it.
func TestSecretOfARunningStep(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("RUN needs root")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skip(err)
	}
	if err := runner.Supported(); err != nil {
		t.Skip(err)
	}
	const value = "hidden-from-everybody-else"
	dir, sync, store := t.TempDir(), t.TempDir(), t.TempDir()
	if err := copyFile(filepath.Join(dir, "busybox"), busybox); err != nil {
		t.Fatal(err)
	}
	const dockerfile = `FROM scratch
COPY busybox /busybox
SHELL ["/busybox", "sh", "-c"]
RUN --mount=type=secret,id=s,env=S,target=/s /busybox cmp -s /s /sync/value && echo has > /sync/started && read go < /sync/go
`
	for name, text := range map[string]string{filepath.Join(dir, "Dockerfile"): dockerfile, filepath.Join(sync, "value"): value} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, fifo := range []string{"started", "go"} {
		if err := unix.Mkfifo(filepath.Join(sync, fifo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("lamina", "build", "--secret=id=s,env=S", "-v", sync+":/sync", dir)
	cmd.Env = append(os.Environ(), "LAMINA_ROOT="+store, "S="+value)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	started, err := os.OpenFile(filepath.Join(sync, "started"), os.O_RDWR, 0) // so that it never blocks
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		ended <- cmd.Wait()
		started.WriteString("ended\n")
	}()
	word := make([]byte, 16)
	if n, err := started.Read(word); err != nil || !strings.HasPrefix(string(word[:n]), "has") {
		t.Fatalf("the step did not start: %v\n%s", err, out.String())
	}
	for _, name := range filesWith(t, store, []byte(value)) {
		t.Errorf("the secret is in %s", name)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range processes {
		if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(value)) {
			t.Errorf("the secret is in %s: %q", name, text)
		}
	}
	goOn, err := os.OpenFile(filepath.Join(sync, "go"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(goOn, "on\n"); err != nil {
		t.Fatal(err)
	}
	goOn.Close()
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if strings.Contains(out.String(), value) {
		t.Errorf("the secret is printed:\n%s", out.String())
	}
}
