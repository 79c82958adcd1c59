package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDockerLoad shows archives to docker: as they are made by default, with other
// options, of several targets and of several platforms.
func TestDockerLoad(t *testing.T) {
	docker := startDocker(t)
	l := newTool(t)
	l.file("file", "file\n")
	l.file("Dockerfile", "FROM scratch AS one\nCOPY file /\nLABEL of=one\nFROM one AS two\nCOPY file /again\nLABEL of=two\n")
	for _, tc := range []struct {
		name string
		args []string
		want map[string]string // image: its label
	}{
		{"plain", []string{"-t", "plain:1", "-o", "type=docker,dest=x.tar"}, map[string]string{"plain:1": "two"}},
		{"uncompressed", []string{"-t", "raw", "-o", "type=docker,dest=x.tar,compression=uncompressed"}, map[string]string{"raw": "two"}},
		{"docker's types", []string{"-t", "types", "-o", "type=docker,dest=x.tar,oci-mediatypes=false"}, map[string]string{"types": "two"}},
		{"several targets", []string{
			"--target", "one", "--target", "two", "-t", "one=first", "-t", "two=second", "-t", "two=second:2", "-o", "type=docker,dest=x.tar",
		}, map[string]string{"first": "one", "second": "two", "second:2": "two"}},
		{"several platforms", []string{"--platform", "linux/arm64,linux/amd64", "-t", "many", "-o", "type=docker,dest=x.tar"}, map[string]string{"many": "two"}},
		{"squashed", []string{"--squash-all", "-t", "squashed", "-o", "type=docker,dest=x.tar"}, map[string]string{"squashed": "two"}},
		{"without a history", []string{"--omit-history", "-t", "silent", "-o", "type=docker,dest=x.tar"}, map[string]string{"silent": "two"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l.must(append(append([]string{"build"}, tc.args...), ".")...)
			docker(t, "load", "-i", filepath.Join(l.dir, "x.tar"))
			for name, label := range tc.want {
				var found []struct {
					Config struct{ Labels map[string]string }
				}
				if err := json.Unmarshal([]byte(docker(t, "inspect", name)), &found); err != nil {
					t.Fatal(err)
				}
				if got := found[0].Config.Labels["of"]; got != label {
					t.Errorf("%s is of %q, want %q", name, got, label)
				}
			}
		})
	}
}

// startDocker starts a docker daemon of the test's own, without networks, and
// returns what executes docker with it. It skips the test where there is none.
func startDocker(t *testing.T) func(t *testing.T, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("dockerd needs root")
	}
	daemon, err := exec.LookPath("dockerd")
	if err != nil {
		t.Skip("dockerd is not installed")
	}
	dir, err := os.MkdirTemp("/tmp", "lamina-docker-") // a socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := "unix://" + dir + "/socket"
	cmd := exec.Command(daemon, "--bridge=none", "--iptables=false", "--ip6tables=false", "-H", socket,
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		<-stopped
	})
	var said []string
	ready := make(chan bool, 1)
	go func() {
		defer close(stopped)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), "API listen on") {
				ready <- true
			}
		}
		_ = cmd.Wait()
		ready <- false
	}()
	if !<-ready {
		t.Skipf("dockerd does not start here: %s", strings.Join(said[max(0, len(said)-3):], "\n"))
	}
	return func(t *testing.T, args ...string) string {
		t.Helper()
		return client(t, "docker", append([]string{"-H", socket}, args...)...)
	}
}
