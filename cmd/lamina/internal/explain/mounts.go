package explain

import (
	"fmt"
	"strings"

	"lamina/solver"
)

// mounts compares the mounts of two RUNs, by where they are.
func (d *differ) mounts(a, b []solver.RunMount) {
	was := map[string]solver.RunMount{}
	for _, m := range a {
		was[where(m)] = m
	}
	for _, m := range b {
		old, ok := was[where(m)]
		delete(was, where(m))
		if !ok {
			d.note(mountKind(m), where(m), "", describeMount(m))
			continue
		}
		old.Input, m.Input = 0, 0 // what is there is compared as an input
		d.note(mountKind(m), where(m), describeMount(old), describeMount(m))
	}
	for _, m := range a {
		if old, gone := was[where(m)]; gone {
			d.note(mountKind(old), where(m), describeMount(old), "")
		}
	}
}

// where is where a command finds m.
func where(m solver.RunMount) string {
	if m.Target == "" && m.EnvName != "" {
		return "$" + m.EnvName
	}
	if m.Target == "" {
		return "/run/secrets/" + m.SecretID
	}
	return m.Target
}

func mountKind(m solver.RunMount) Kind {
	if m.Type == solver.MountSecret || m.Type == solver.MountSSH {
		return Secret
	}
	return Mount
}

// describeMount is m as --mount would say it, without where it is.
func describeMount(m solver.RunMount) string {
	fields := []string{"type=" + string(m.Type)}
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, key+"="+value)
		}
	}
	add("id", m.CacheID+m.SecretID+m.SSHID)
	add("env", m.EnvName)
	add("source", m.Source)
	if m.Sharing != "shared" {
		add("sharing", m.Sharing)
	}
	on := func(key string, value bool) {
		if value {
			add(key, "true")
		}
	}
	on("readonly", m.ReadOnly && m.Type != solver.MountBind)
	on("rw", !m.ReadOnly && m.Type == solver.MountBind)
	on("discard", m.Discard)
	on("required", m.Required)
	if m.Mode != nil {
		add("mode", fmt.Sprintf("%04o", *m.Mode))
	}
	if m.UID != nil {
		add("uid", fmt.Sprint(*m.UID))
	}
	if m.GID != nil {
		add("gid", fmt.Sprint(*m.GID))
	}
	if m.Size != 0 {
		add("size", fmt.Sprint(m.Size))
	}
	return strings.Join(fields, ",")
}
