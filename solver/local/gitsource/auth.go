package gitsource

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
)

// The secrets that hold credentials for HTTP: a whole Authorization header, or a
// token. With "." and a host behind them they are for that host.
const (
	headerSecret = "GIT_AUTH_HEADER"
	tokenSecret  = "GIT_AUTH_TOKEN"
)

// authorize adds to p what the server of remote wants to know: a secret's header
// or token by HTTP, an agent by SSH.
func (c *Client) authorize(ctx context.Context, p *program, remote string) error {
	u, err := url.Parse(remote)
	switch {
	case err != nil || u.Scheme == "ssh": // "git@host:path" is no URL
		return c.addAgent(ctx, p)
	case u.Scheme == "http" || u.Scheme == "https":
		return c.addHeader(p, remote, u.Host)
	}
	return nil
}

func (c *Client) addAgent(ctx context.Context, p *program) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil { // for the servers that are known
		return err
	}
	if c.Agent == nil {
		return nil
	}
	socket, stop, err := c.Agent(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ssh agent: %w", err)
	}
	p.env, p.stop = append(p.env, "SSH_AUTH_SOCK="+socket), stop
	return nil
}

func (c *Client) addHeader(p *program, remote, host string) error {
	for _, id := range []string{headerSecret + "." + host, tokenSecret + "." + host, headerSecret, tokenSecret} {
		value, err := c.secret(id)
		if err != nil {
			return fmt.Errorf("secret %s: %w", id, err)
		}
		if value == "" {
			continue
		}
		p.secrets = append(p.secrets, value)
		if strings.HasPrefix(id, tokenSecret) {
			value = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+value))
			p.secrets = append(p.secrets, value)
		}
		// By the environment: what other users see of a process is its arguments.
		p.env = append(p.env, "GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=http."+scope(remote)+".extraheader", "GIT_CONFIG_VALUE_0=Authorization: "+value)
		return nil
	}
	return nil
}

// scope is what a header may be sent to: the repository, but at GitHub, whose
// repositories have others as submodules, all that is GitHub's.
func scope(remote string) string {
	for _, site := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, site) {
			return site
		}
	}
	return remote
}
