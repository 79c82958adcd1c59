package frontend

import (
	"cmp"
	"fmt"
	"path"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"lamina/solver"
)

// secretMount returns the mount of a secret, of which the parser has seen to it
// that it has an id, a source or a target.
func (s *stage) secretMount(m *instructions.Mount) (solver.RunMount, error) {
	id := secretID(m)
	mount := solver.RunMount{
		Type:     solver.MountSecret,
		SecretID: id,
		ReadOnly: true,
		Required: m.Required,
		Mode:     narrow[uint32](m.Mode),
		UID:      narrow[int](m.UID),
		GID:      narrow[int](m.GID),
	}
	switch {
	case m.Target != "":
		mount.Target = path.Clean(absolute(s.workdir(), m.Target))
	case m.Env == nil:
		mount.Target = "/run/secrets/" + path.Base(id)
	}
	if m.Env != nil {
		if *m.Env == "" {
			return mount, wrong("name it: env=TOKEN", "the variable of secret %q has no name", id)
		}
		mount.EnvName = *m.Env
	}
	return mount, nil
}

// agentVariable is where ssh and its like look for an agent.
const agentVariable = "SSH_AUTH_SOCK"

// sshMount returns the mount of an ssh agent's socket. Its target is empty if it
// is to have the usual one.
func (s *stage) sshMount(m *instructions.Mount) (solver.RunMount, error) {
	if m.Source != "" {
		return solver.RunMount{}, wrong("name the agent with id=", "an ssh mount has no source")
	}
	mount := solver.RunMount{
		Type:     solver.MountSSH,
		SSHID:    cmp.Or(m.CacheID, "default"),
		Target:   m.Target,
		Required: m.Required,
		Mode:     narrow[uint32](m.Mode),
		UID:      narrow[int](m.UID),
		GID:      narrow[int](m.GID),
	}
	return mount, nil
}

// settleAgents gives the sockets of agents among mounts their places, and returns
// env with the first one's, unless it names an agent already. The variable has the
// target as it is written; a relative one is found from the working directory.
func (s *stage) settleAgents(env environ, mounts []solver.RunMount) environ {
	n := 0
	for i := range mounts {
		m := &mounts[i]
		if m.Type != solver.MountSSH {
			continue
		}
		if m.Target == "" {
			m.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", n)
		}
		if _, set := env.Get(agentVariable); !set {
			env = env.with(agentVariable, m.Target)
		}
		m.Target = path.Clean(absolute(s.workdir(), m.Target))
		n++
	}
	return env
}
