package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
)

// identityUser is the user name by which a helper says that its secret is an
// identity token.
const identityUser = "<token>"

// ask gets the credential for a server from a helper. That it knows nothing of
// the server is no error.
func (l *logins) ask(ctx context.Context, helper, server string) (credential, error) {
	name := "docker-credential-" + helper
	path, err := l.lookPath(name)
	if err != nil {
		return credential{}, err
	}
	p := &program{ctx: ctx, path: path}
	answer, err := client.Get(p.start, server)
	switch {
	case credentials.IsErrCredentialsNotFound(err) || credentials.IsErrCredentialsNotFoundMessage(p.complaint()):
		return credential{}, nil
	case p.err != nil: // which says more than what client makes of it
		return credential{}, fmt.Errorf("%s: %w", strings.TrimSuffix(name+": "+printable(p.complaint()), ": "), p.err)
	case err != nil:
		return credential{}, fmt.Errorf("%s: %w", name, err)
	}
	c := credential{AuthConfig: authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, source: name}
	if answer.Username == identityUser {
		c.AuthConfig = authn.AuthConfig{IdentityToken: answer.Secret}
	}
	return c, nil
}

// program runs a helper as [client.Shell] does, except that a context ends it
// and that what it complains about does not go past us to the terminal.
type program struct {
	ctx            context.Context
	path           string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	err            error // of running it
}

func (p *program) start(args ...string) client.Program {
	p.cmd = exec.CommandContext(p.ctx, p.path, args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = time.Second // for grandchildren that keep the pipes open
	return p
}

// Input implements [client.Program].
func (p *program) Input(r io.Reader) { p.cmd.Stdin = r }

// Output implements [client.Program].
func (p *program) Output() ([]byte, error) {
	p.err = p.cmd.Run()
	return p.stdout.Bytes(), p.err
}

// complaint is what the program said when it failed; helpers use either stream.
func (p *program) complaint() string {
	if p.err == nil {
		return ""
	}
	return strings.TrimSpace(p.stdout.String() + " " + p.stderr.String())
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
