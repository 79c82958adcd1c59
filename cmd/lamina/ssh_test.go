package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"lamina/runner"
)

// sshServer is a real sshd that lets one key in and runs one command. It is
// started for each connection, as by inetd.
type sshServer struct {
	port   int
	key    string // file of the private key that it lets in
	secret []byte // what no store may have
	ring   agent.Agent
}

const greeting = "hello from sshd"

func newSSHServer(t *testing.T, command string) *sshServer {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	s := &sshServer{key: filepath.Join(dir, "id"), ring: agent.NewKeyring()}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	s.secret = private.Seed()
	if err := s.ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	known, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	host := filepath.Join(dir, "host")
	if err := writeKey(host); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`HostKey %s
AuthorizedKeysFile %s/keys
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin yes
PasswordAuthentication no
ForceCommand %s
`, host, dir, command)
	for name, data := range map[string][]byte{
		"id": pem.EncodeToMemory(block), "keys": ssh.MarshalAuthorizedKey(known), "config": []byte(config),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd insists on it
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.port = l.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				return
			}
			cmd := exec.Command(sshd, "-i", "-f", filepath.Join(dir, "config"))
			cmd.Stdin, cmd.Stdout = f, f
			_ = cmd.Run() // the client will tell
			f.Close()
		}
	}()
	return s
}

// socket is an agent that has the key, as ssh-agent would be.
func (s *sshServer) socket(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = agent.ServeAgent(s.ring, conn) // ends with the connection
				conn.Close()
			}()
		}
	}()
	return name
}

// A RUN signs with keys that it never sees, be they in files or in an agent, and
// only while it runs.
func TestSSH(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("RUN needs root")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skip(err)
	}
	if err := runner.Supported(); err != nil {
		t.Skip(err)
	}
	s := newSSHServer(t, "echo "+greeting)
	dir, store := t.TempDir(), t.TempDir()
	if err := copyFile(filepath.Join(dir, "busybox"), busybox); err != nil {
		t.Fatal(err)
	}
	const dockerfile = `FROM scratch AS base
COPY busybox /busybox
COPY passwd /etc/passwd
SHELL ["/busybox", "sh", "-c"]
FROM base AS use
ARG PORT
RUN --mount=type=ssh,required ssh -p $PORT -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1
RUN --mount=type=ssh ssh-add -D; ssh-add -l
RUN [ ! -e "$SSH_AUTH_SOCK" ] && [ ! -e /run/buildkit ] && echo it is gone
FROM base AS other
RUN --mount=type=ssh,id=other,required true
FROM base AS without
RUN --mount=type=ssh ssh-add -l || echo none
`
	for name, text := range map[string]string{"Dockerfile": dockerfile, "passwd": "root:x:0:0:root:/root:/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := func(env string, args ...string) (string, error) {
		cmd := exec.Command("lamina", append([]string{"build", "--no-cache", "--progress=plain",
			"--build-arg", "PORT=" + strconv.Itoa(s.port),
			"-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", dir}, args...)...)
		cmd.Env = append(os.Environ(), "LAMINA_ROOT="+store, "SSH_AUTH_SOCK="+env)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	agent := s.socket(t)
	for _, tc := range []struct{ flag, env string }{
		{"default=" + s.key, ""},
		{"default=" + agent, ""},
		{"default", agent},
	} {
		out, err := build(tc.env, "--target=use", "--ssh="+tc.flag)
		for _, want := range []string{greeting, "ED25519", "it is gone"} {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("--ssh=%s: %v, %q is not in\n%s", tc.flag, err, want, out)
			}
		}
		if strings.Contains(out, "not change them") {
			t.Errorf("what a step may not do with an agent is logged:\n%s", out)
		}
	}
	if keys, err := s.ring.List(); err != nil || len(keys) != 1 {
		t.Errorf("a step removed keys of the agent: %d are left, %v", len(keys), err)
	}
	if out, err := build("", "--target=without"); err != nil || !strings.Contains(out, "none") {
		t.Errorf("without an agent: %v\n%s", err, out)
	}
	for _, tc := range []struct{ want, target, flag string }{
		{`an ssh agent "other" is required, but was not given: add --ssh other`, "other", "default=" + s.key},
		{"--ssh=default: no ssh agent is running: SSH_AUTH_SOCK is not set", "use", "default"},
		{"want one socket, or key files, not both", "use", "default=" + agent + "," + s.key},
		{"is no private key", "use", "default=" + filepath.Join(dir, "passwd")},
		{"/nope: no such file or directory", "use", "default=/nope"},
	} {
		if out, err := build("", "--target="+tc.target, "--ssh="+tc.flag); err == nil || !strings.Contains(out, tc.want) {
			t.Errorf("--ssh=%s: %v, %q is not in\n%s", tc.flag, err, tc.want, out)
		}
	}
	for _, name := range filesWith(t, store, s.secret) {
		t.Errorf("the private key is in %s", name)
	}
}

// filesWith are the files in dir that contain data.
func filesWith(t *testing.T, dir string, data []byte) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		if bytes.Contains(content, data) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
