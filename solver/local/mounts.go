package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"lamina/runner"
	"lamina/snapshot"
	"lamina/solver"
)

// prepared is a RUN's specification, and what has to be given back after it.
type prepared struct {
	worker  *Worker
	driver  snapshot.Driver
	spec    runner.Spec
	secrets [][]byte // values that must not be shown
	closers []func() error
}

// close gives back what was taken, the last first.
func (p *prepared) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

// mount adds one mount of a RUN.
func (p *prepared) mount(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	switch m.Type {
	case solver.MountBind:
		return p.bind(ctx, t, m, out)
	case solver.MountCache:
		return p.cache(ctx, t, m, out)
	case solver.MountTmpfs:
		return p.tmpfs(m)
	case solver.MountSecret:
		return p.secret(m)
	}
	return fmt.Errorf("cannot mount a %s", m.Type)
}

// bind shows a part of another tree. What a RUN writes to it is gone afterwards.
func (p *prepared) bind(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	stack, err := p.worker.stack(ctx, t.Inputs[m.Input], out)
	if err != nil {
		return err
	}
	sub, err := snapshot.Resolve(stack, relative(m.Source), true)
	if err != nil {
		return err
	}
	entry, err := stack.Lstat(sub)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no /%s in what it is mounted from", relative(m.Source))
	}
	if err != nil {
		return err
	}
	root, err := p.root(ctx, t.Inputs[m.Input], m.ReadOnly)
	if err != nil {
		return err
	}
	name := "mount" + strconv.Itoa(len(p.spec.Roots))
	if p.spec.Roots == nil {
		p.spec.Roots = map[string][]snapshot.Mount{}
	}
	p.spec.Roots[name] = root
	bind := snapshot.Mount{Type: "bind", Source: name + ":/" + sub, Target: m.Target}
	if m.ReadOnly {
		bind.Options = append(bind.Options, "ro")
	}
	if entry.Kind != snapshot.Dir {
		bind.Options = append(bind.Options, "file")
	}
	p.spec.Mounts = append(p.spec.Mounts, bind)
	return nil
}

// root makes a filesystem of in, which nothing keeps.
func (p *prepared) root(ctx context.Context, in solver.Result, readOnly bool) ([]snapshot.Mount, error) {
	ids, err := p.worker.Unpack(ctx, in.Layers, nil)
	if err != nil {
		return nil, err
	}
	if !readOnly {
		tx, err := p.driver.Begin(ctx, ids, nil)
		if err != nil {
			return nil, err
		}
		p.closers = append(p.closers, tx.Close)
		return tx.Mounts(), nil
	}
	view, err := p.driver.View(ctx, ids)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, view.Close)
	return view.Mounts(), nil
}

func (p *prepared) tmpfs(m solver.RunMount) error {
	mount := snapshot.Mount{Type: "tmpfs", Target: m.Target, Options: []string{"mode=1777"}}
	if m.Size > 0 {
		mount.Options = append(mount.Options, "size="+strconv.FormatInt(m.Size, 10))
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// secret hands over a secret as a file in memory, as a variable, or both.
func (p *prepared) secret(m solver.RunMount) error {
	value, err := p.worker.Secret(m.SecretID)
	if errors.Is(err, fs.ErrNotExist) {
		if !m.Required {
			return nil
		}
		return fmt.Errorf("secret %q is required, but was not given: add --secret id=%s,src=FILE", m.SecretID, m.SecretID)
	}
	if err != nil {
		return fmt.Errorf("secret %q: %w", m.SecretID, err)
	}
	p.secrets = append(p.secrets, value)
	if m.EnvName != "" {
		if strings.IndexByte(string(value), 0) >= 0 {
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

// or is what p points to, or otherwise.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
