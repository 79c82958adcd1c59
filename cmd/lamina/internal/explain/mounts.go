package explain

import (
	"fmt"
	"slices"
	"strings"

	"lamina/solver"
)

// mounts compares the mounts of two RUNs, by where they are.
func (d *differ) mounts(a, b []solver.RunMount) {
	gone := slices.Clone(a)
	var added []solver.RunMount
	for _, m := range b {
		i := slices.IndexFunc(gone, func(old solver.RunMount) bool { return where(old) == where(m) })
		if i < 0 {
			added = append(added, m)
			continue
		}
		d.note(mountKind(m), where(m), describeMount(gone[i]), describeMount(m))
		gone = slices.Delete(gone, i, i+1)
	}
	if len(gone) == 1 && len(added) == 1 && gone[0].Type == added[0].Type { // the same one, elsewhere
		d.note(mountKind(added[0]), where(added[0]), describeMoved(gone[0]), describeMoved(added[0]))
		return
	}
	for _, m := range added {
		d.note(mountKind(m), where(m), "", describeMount(m))
	}
	for _, m := range gone {
		d.note(mountKind(m), where(m), describeMount(m), "")
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

// describeMoved is m with where it is, unless that follows from its id.
func describeMoved(m solver.RunMount) string {
	if m.Type == solver.MountSecret && (m.Target == "" || m.Target == "/run/secrets/"+m.SecretID) {
		return describeMount(m)
	}
	return describeMount(m) + ",target=" + where(m)
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
	on("readonly", m.ReadOnly && m.Type != solver.MountBind && mountKind(m) != Secret)
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
