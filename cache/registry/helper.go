package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// identityUser is the user name by which a helper says that its secret is an
// identity token.
const identityUser = "<token>"

// ask runs docker-credential-<helper> get: the server's name on its standard
// input, {"Username", "Secret"} on its output. That it knows nothing of the
// server is no error.
func (l *logins) ask(ctx context.Context, helper, server string) (credential, error) {
	name := "docker-credential-" + helper
	path, err := l.lookPath(name)
	if err != nil {
		return credential{}, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // for grandchildren that keep the pipes open
	if err := cmd.Run(); err != nil {
		// Helpers complain on either stream, and say this when they have nothing.
		said := strings.TrimSpace(stdout.String() + " " + stderr.String())
		if strings.Contains(said, "credentials not found") {
			return credential{}, nil
		}
		return credential{}, fmt.Errorf("%s: %w", strings.TrimSuffix(name+": "+printable(said), ": "), err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
		return credential{}, fmt.Errorf("%s: %w", name, err)
	}
	c := credential{user: answer.Username, password: answer.Secret, source: name}
	if answer.Username == identityUser {
		c = credential{identity: answer.Secret, source: name}
	}
	return c, nil
}

// lookPath finds a program by the PATH of our environment.
func (l *logins) lookPath(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("%q is no credential helper", name)
	}
	for _, dir := range filepath.SplitList(l.getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue // a helper gets to see secrets: never from the working directory
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}
