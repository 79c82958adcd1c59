package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// watchExample is the example of docs/build.md, which no script can run.
const watchExample = "lamina build --watch -o result ."

// TestWatch: "build --watch" builds again after each change of what it reads, also
// after one that broke the build, and not for what it writes itself.
func TestWatch(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		// By renaming, so that no half of it is seen.
		if err := os.WriteFile(filepath.Join(store, "new"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(store, "new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", "FROM scratch\nCOPY file /\n")
	write(".dockerignore", "ignored\nout\n")
	write("file", "one")

	args := strings.Fields(watchExample)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LAMINA_ROOT="+filepath.Join(store, "store"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(stderr)
	built := func() (said string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "watching ") {
				return said
			}
			said += lines.Text() + "\n"
		}
		t.Fatalf("it ended, and said\n%s", said)
		return ""
	}
	check := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(dir, "result", "file")); err != nil || string(got) != want {
			t.Errorf("result has %q (%v), want %q", got, err, want)
		}
	}
	built()
	check("one")
	write("ignored", "nobody reads it") // were it read, what follows would be a step behind
	write("file", "two")
	built()
	check("two")
	write("Dockerfile", "FROM scratch\nCOPY fill /\n")
	if said := built(); !strings.Contains(said, "fill") {
		t.Errorf("of a file that is not there it says\n%s", said)
	}
	write("fill", "three")
	built()
	if got, err := os.ReadFile(filepath.Join(dir, "result", "fill")); err != nil || string(got) != "three" {
		t.Errorf("result has %q (%v), want three", got, err)
	}

	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("after ^C it exits with %d, want 130", code)
	}

	// Each is remembered as a build of its own.
	ls := exec.Command(args[0], "builds", "ls", "--format", "{{.Status}}")
	ls.Env = cmd.Env
	if got := finish(t, ls).stdout; got != "succeeded\nfailed\nsucceeded\nsucceeded\n" {
		t.Errorf("the builds are\n%s", got)
	}
}
