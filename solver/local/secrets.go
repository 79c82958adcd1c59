package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"lamina/runner"
	"lamina/snapshot"
	"lamina/solver"
)

// secret hands over a secret as a file in memory, as a variable, or both. One that
// was not given is no file, but an empty variable.
func (p *prepared) secret(m solver.RunMount) error {
	value, err := p.worker.Secret(m.SecretID)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && m.Required:
		return fmt.Errorf("secret %q is required, but was not given: add --secret id=%s,src=FILE", m.SecretID, m.SecretID)
	case missing:
		m.Target = ""
	case err != nil:
		return fmt.Errorf("secret %q: %w", m.SecretID, err)
	}
	p.secrets = append(p.secrets, value)
	if m.EnvName != "" {
		if bytes.IndexByte(value, 0) >= 0 {
			return fmt.Errorf("secret %q has a NUL byte and cannot be a variable", m.SecretID)
		}
		p.spec.Env = append(p.spec.Env, m.EnvName+"="+string(value))
	}
	if m.Target != "" {
		p.spec.Files = append(p.spec.Files, runner.File{
			Target: m.Target, Data: value, Mode: or(m.Mode, 0o400), UID: or(m.UID, 0), GID: or(m.GID, 0),
		})
	}
	return nil
}

// ssh shows the socket of an ssh agent, behind which nobody is once the step has
// ended.
func (p *prepared) ssh(ctx context.Context, m solver.RunMount) error {
	socket, stop, err := p.worker.sshSocket(ctx, m.SSHID)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && m.Required:
		return fmt.Errorf("an ssh agent %q is required, but was not given: add --ssh %s", m.SSHID, m.SSHID)
	case missing:
		return nil
	case err != nil:
		return fmt.Errorf("ssh agent %q: %w", m.SSHID, err)
	}
	p.closers = append(p.closers, stop)
	if err := os.Chown(socket, or(m.UID, 0), or(m.GID, 0)); err != nil {
		return err
	}
	if err := os.Chmod(socket, fs.FileMode(or(m.Mode, 0o600)&0o777)); err != nil {
		return err
	}
	p.spec.Mounts = append(p.spec.Mounts, snapshot.Mount{Type: "bind", Source: socket, Target: m.Target})
	return nil
}
