package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// victim is a process that is killed while it runs a container. It prints the
// container's pid and its control groups when the command runs.
func victim(state, root string, args []string) {
	r, err := New(Options{State: state})
	if err != nil {
		panic(err)
	}
	s := Spec{ID: "victim", Root: bindRoot(root), Args: args, User: "user", Network: "none"}
	ready := &firstWrite{seen: make(chan struct{})}
	p, err := r.Start(context.Background(), s, IO{Stdout: ready})
	if err != nil {
		panic(err)
	}
	<-ready.seen
	groups, err := json.Marshal(p.(*process).bundle.cgroups)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d %s\n", p.Pid(), groups)
	fmt.Println(p.Wait())
}

func TestKilledParentLeavesNothing(t *testing.T) {
	root := busyboxRoot(t)
	if err := os.Mkdir(filepath.Join(root, "suid"), 0o755); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	// Executing a setuid program clears the parent death signal.
	write(t, filepath.Join(root, "suid/sh"), string(content), 0o4755)
	for _, tc := range []struct {
		name string
		args []string
	}{
		{"plain", []string{"sh", "-c", "sleep 1000 & setsid sleep 1000 & echo ready; wait"}},
		{"setuid", []string{"/suid/sh", "-c", "echo ready; while :; do sleep 1000; done"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, state := newRunner(t)
			cmd := exec.Command("/proc/self/exe", tc.args...)
			cmd.Env = append(os.Environ(), "LAMINA_TEST_VICTIM="+state, "LAMINA_TEST_ROOT="+root)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			pidText, groupsText, _ := strings.Cut(line, " ")
			var pid int
			var groups map[string]string
			if _, serr := fmt.Sscan(pidText, &pid); serr != nil || err != nil {
				_ = cmd.Process.Kill()
				t.Fatalf("victim said %q, %v, %v", line, err, cmd.Wait())
			}
			if err := json.Unmarshal([]byte(groupsText), &groups); err != nil {
				t.Fatal(err)
			}
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			if err := r.Sweep(context.Background()); err != nil {
				t.Errorf("sweep while it lives: %v", err)
			}
			if ended(t, pidfd, 0) {
				t.Fatal("the container ended too early")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if !ended(t, pidfd, 10*time.Second) {
				t.Error("the container outlives its parent")
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || strings.Contains(string(mounts), state) {
				t.Errorf("something is mounted: %v", err)
			}
			if err := r.Sweep(context.Background()); err != nil {
				t.Errorf("sweep: %v", err)
			}
			noneLeft(t, groups)
		})
	}
}

// ended tells whether the process behind pidfd ends in time.
func ended(t *testing.T, pidfd int, timeout time.Duration) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(timeout); ; {
		n, err := unix.Poll(fds, int(max(0, time.Until(end)).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
}

// A process may die anywhere, in newBundle too.
func TestSweepRemains(t *testing.T) {
	r, state := newRunner(t)
	for name, make := range map[string]func(dir string) error{
		"locked only": func(string) error { return nil },
		"made only":   func(dir string) error { return os.Mkdir(dir, 0o711) },
		"torn record": func(dir string) error {
			if err := os.Mkdir(dir, 0o711); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "cgroups"), []byte(`{"a`), 0o600)
		},
	} {
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(state, "x")
		write(t, dir+".lock", "", 0o600)
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if err := r.Sweep(context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(state); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}
