package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long git has to end once it was told to.
const patience = 10 * time.Second

// program runs git with the credentials for one remote.
type program struct {
	path    string
	env     []string
	secrets []string // that must not be shown
	stop    func() error
}

// program finds git and what it may tell the server of remote. The caller must
// close it.
func (c *Client) program(ctx context.Context, remote string) (*program, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, wrong("install git: sources in Git repositories are fetched with it", "the program git is not installed")
	}
	p := &program{path: path, env: []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C",
		"HOME=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "SSH_ASKPASS_REQUIRE=never",
		"GIT_SSH_COMMAND=" + c.ssh(),
	}}
	for _, key := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"} {
		for _, key := range []string{key, strings.ToLower(key)} {
			if v, ok := os.LookupEnv(key); ok {
				p.env = append(p.env, key+"="+v)
			}
		}
	}
	if u, err := url.Parse(remote); err == nil {
		if password, ok := u.User.Password(); ok {
			p.secrets = append(p.secrets, password, url.QueryEscape(password), url.PathEscape(password))
		}
	}
	if err := c.authorize(ctx, p, remote); err != nil {
		return nil, err
	}
	return p, nil
}

// close ends what was started for git.
func (p *program) close() {
	if p.stop != nil {
		_ = p.stop() // what it leaves lies among the temporary files
	}
}

// ssh is the command for remotes that are reached by SSH. A server that is not
// known is remembered, and has to be the same one the next time.
func (c *Client) ssh() string {
	files := `UserKnownHostsFile="` + filepath.Join(c.Dir, "known_hosts") + `" ~/.ssh/known_hosts`
	return "ssh -F " + os.DevNull + " -o BatchMode=yes -o StrictHostKeyChecking=accept-new" +
		" -o '" + strings.ReplaceAll(files, "'", `'\''`) + "'"
}

// git runs git and returns its standard output.
func (p *program) git(ctx context.Context, args ...string) (string, error) {
	return p.in(ctx, "", nil, args...)
}

// in runs git in the directory dir with more environment.
func (p *program) in(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	options := []string{
		"-c", "protocol.file.allow=user", // not for what a repository names as its submodule
		"-c", "core.hooksPath=" + os.DevNull, "-c", "gc.auto=0", "-c", "maintenance.auto=false",
		"-c", "init.defaultBranch=master", "-c", "advice.detachedHead=false",
	}
	cmd := exec.CommandContext(ctx, p.path, append(options, args...)...)
	cmd.Dir, cmd.Env = dir, append(p.env[:len(p.env):len(p.env)], env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// git has helpers, which would outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = patience
	err := run(cmd)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", &failure{args: args, text: p.redact(complaint(stderr.String()))}
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return stdout.String(), nil
}

// run runs cmd with the file mode mask 022, whatever this process has: the modes
// of what git writes reach the image. The mask belongs to a thread of its own.
func run(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0o022)
			err = cmd.Run()
		}
		done <- err
	}()
	return <-done
}

// failure is what git said when it failed.
type failure struct {
	args []string
	text string
}

func (f *failure) Error() string { return f.text }

// complaint is the part of git's messages that says why it failed.
func complaint(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{"fatal: ", "error: ", "remote: "} {
			line = strings.TrimPrefix(line, prefix)
		}
		if line == "" || strings.HasPrefix(line, "hint:") || strings.HasPrefix(line, "Cloning into") ||
			strings.HasPrefix(line, "warning:") || strings.HasPrefix(line, "Warning:") || strings.HasPrefix(line, "From ") {
			continue
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return "git failed without a word"
	}
	return strings.Join(lines, "; ")
}

// redact hides secrets in what git says.
func (p *program) redact(text string) string {
	for _, s := range p.secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}

// Redact hides the password in a URL, if it has one.
func Redact(remote string) string {
	scheme, rest, ok := strings.Cut(remote, "://")
	if !ok {
		return remote // "user@host:path"
	}
	host, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(host, "@")
	user, _, secret := strings.Cut(host[:max(at, 0)], ":")
	if !secret {
		return remote
	}
	return scheme + "://" + user + ":***" + host[at:] + "/" + path
}

// said tells whether err is a failure of git that mentions any of words.
func said(err error, words ...string) bool {
	var f *failure
	if !errors.As(err, &f) {
		return false
	}
	for _, w := range words {
		if strings.Contains(f.text, w) {
			return true
		}
	}
	return false
}

// secret returns a secret; it is empty if there is none.
func (c *Client) secret(id string) (string, error) {
	if c.Secret == nil {
		return "", nil
	}
	data, err := c.Secret(id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimRight(string(data), "\r\n"), err
}
