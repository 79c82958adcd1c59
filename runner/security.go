package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/moby/sys/capability"
	_ "github.com/opencontainers/cgroups/devices" // lets libcontainer guard devices
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCapabilities are docker's.
func defaultCapabilities() []string {
	return []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID",
		"CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP",
		"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

// capabilities are the default ones, less the dropped, with the added: "ALL" may
// stand for every one, and then a single one on the other side is an exception,
// as docker has it. The inheritable set is empty unless s says otherwise: programs
// with file capabilities must not gain more than a setuid program would.
func capabilities(s Spec) (*configs.Capabilities, error) {
	all := ownCapabilities()
	set := func(names []string) (bool, []string, error) {
		var out []string
		for _, n := range names {
			n = strings.ToUpper(n)
			if n == "ALL" {
				return true, nil, nil
			}
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if !slices.Contains(knownCapabilities(), n) {
				return false, nil, fmt.Errorf("unknown capability %q", n)
			}
			out = append(out, n)
		}
		return false, out, nil
	}
	addAll, add, err := set(s.CapAdd)
	if err != nil {
		return nil, err
	}
	dropAll, drop, err := set(s.CapDrop)
	if err != nil {
		return nil, err
	}
	var caps []string
	switch {
	case s.Insecure || addAll:
		caps = all
	case !dropAll:
		caps = defaultCapabilities()
	}
	if !s.Insecure {
		caps = slices.DeleteFunc(slices.Clone(caps), func(c string) bool { return slices.Contains(drop, c) })
		for _, c := range add {
			if !slices.Contains(caps, c) {
				caps = append(caps, c)
			}
		}
	}
	slices.Sort(caps)
	granted := &configs.Capabilities{Bounding: caps, Effective: caps, Permitted: caps}
	if s.Ambient {
		granted.Inheritable, granted.Ambient = caps, caps
	}
	return granted, nil
}

// knownCapabilities are those that this program has a name for.
func knownCapabilities() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}

// ownCapabilities are those that this process may pass on.
func ownCapabilities() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		if has, err := capability.GetBound(c); err == nil && has {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names
}

// maskedPaths cannot be read in a container, as in docker: they tell of the
// machine, or change it.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

// readonlyPaths cannot be written in a container, as in docker.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// seccompProfile is docker's default for a container with these capabilities.
func seccompProfile(bounding []string) (*configs.Seccomp, error) {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}},
	})
	if err != nil {
		return nil, fmt.Errorf("system call filter: %w", err)
	}
	filter, err := specconv.SetupSeccomp(profile)
	if err != nil {
		return nil, fmt.Errorf("system call filter: %w", err)
	}
	return filter, nil
}
