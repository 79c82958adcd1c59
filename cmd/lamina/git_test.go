package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// testRepository makes a bare repository with a Dockerfile, which says "hello".
func testRepository(t *testing.T) string {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	repo, work := filepath.Join(t.TempDir(), "app.git"), t.TempDir()
	script := `git init -q; echo hello >greeting; printf 'FROM scratch\nCOPY greeting /\n' >Dockerfile; git add .; git commit -qm one`
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir, cmd.Env = work, append(gitEnv(), "GIT_DIR="+repo, "GIT_WORK_TREE="+work)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return repo
}

// A repository is read over ssh with the agent that --ssh gives; the server is
// remembered, and another one in its place is refused.
func TestGitOverSSH(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("sshd needs root")
	}
	repo := testRepository(t)
	s := newSSHServer(t, `sh -c "$SSH_ORIGINAL_COMMAND"`)
	store := t.TempDir()
	url := fmt.Sprintf("ssh://root@127.0.0.1:%d%s", s.port, repo)
	build := func(args ...string) (string, error) {
		cmd := exec.Command("lamina", append([]string{"build", "--progress=plain"}, args...)...)
		cmd.Env = append(os.Environ(), "LAMINA_ROOT="+store, "SSH_AUTH_SOCK=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := build(url)
	if err == nil || !strings.Contains(out, "Permission denied") || !strings.Contains(out, "hint: pass an agent") {
		t.Errorf("without an agent: %v\n%s", err, out)
	}
	dest := t.TempDir()
	if out, err := build("--ssh", "default="+s.key, "-o", dest, url); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if data, err := os.ReadFile(filepath.Join(dest, "greeting")); err != nil || string(data) != "hello\n" {
		t.Errorf("%q, %v", data, err)
	}
	add := t.TempDir()
	if err := os.WriteFile(filepath.Join(add, "Dockerfile"), []byte("FROM scratch\nADD "+url+" /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := build("--ssh", "default="+s.key, "-o", dest, add); err != nil {
		t.Errorf("ADD: %v\n%s", err, out)
	}
	known := filepath.Join(store, "git", "known_hosts")
	data, err := os.ReadFile(known)
	if err != nil || !strings.Contains(string(data), fmt.Sprintf("[127.0.0.1]:%d ", s.port)) {
		t.Fatalf("%q, %v", data, err)
	}
	other := newSSHServer(t, "true")
	impostor := strings.ReplaceAll(string(data), fmt.Sprintf("]:%d ", s.port), fmt.Sprintf("]:%d ", other.port))
	if err := os.WriteFile(known, []byte(impostor), 0o600); err != nil {
		t.Fatal(err)
	}
	url = fmt.Sprintf("ssh://root@127.0.0.1:%d%s", other.port, repo)
	if out, err := build("--ssh", "default="+other.key, url); err == nil || !strings.Contains(out, "Host key verification failed") {
		t.Errorf("a server with another key: %v\n%s", err, out)
	}
}

// A token and a password are used, and nobody sees them: not in what is shown, not
// in the image, and not in the store.
func TestGitSecretsStaySecret(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	c := &refCase{archive: txtar.Parse([]byte(`-- git/app --
printf 'FROM scratch\nCOPY . /\n' >Dockerfile; git add .; git commit -qm one
`))}
	server := serveRefCase(t, c)
	store, dir := t.TempDir(), t.TempDir()
	withPassword := strings.Replace(server, "http://", "http://x-access-token:secret@", 1) + "/private/app.git"
	dockerfile := "FROM scratch\nADD --keep-git-dir " + withPassword + " /\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--secret", "id=GIT_AUTH_TOKEN,env=TOKEN", server + "/private/app.git"},
		{"--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", withPassword},
		{dir},
	} {
		cmd := exec.Command("lamina", append([]string{"build", "--progress=plain"}, args...)...)
		cmd.Env = append(os.Environ(), "LAMINA_ROOT="+store, "TOKEN=secret")
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "secret") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	err := filepath.WalkDir(store, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if strings.Contains(string(data), "token:secret") || string(data) == "secret" {
			t.Errorf("%s has it: %.200q", name, data)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
