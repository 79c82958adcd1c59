package runner

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"golang.org/x/sys/unix"
)

const (
	defaultHostname = "lamina"
	defaultPath     = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// check reports what in s could not mean anything.
func check(s Spec) error {
	switch {
	case !validID(s.ID):
		return fmt.Errorf("container ID %q is not 1 to 64 of [a-z0-9-]", s.ID)
	case len(s.Root) == 0 || s.Root[0].Target != "/":
		return errors.New("container has no root filesystem")
	case len(s.Args) == 0 || s.Args[0] == "":
		return errors.New("no command to run")
	case s.Dir != "" && !path.IsAbs(s.Dir):
		return fmt.Errorf("working directory %q is not absolute", s.Dir)
	case s.Network != "host" && s.Network != "none":
		return fmt.Errorf("unknown network %q: use host or none", s.Network)
	}
	return nil
}

// validID tells whether id is safe as a file's name, and short enough to be part
// of one.
func validID(id string) bool {
	return id != "" && len(id) <= 64 && id[0] != '-' &&
		strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// configure translates s for libcontainer. It touches nothing: what had to be
// looked up or made before is in b.
func configure(s Spec, b bundle) (*configs.Config, error) {
	caps, err := capabilities(s)
	if err != nil {
		return nil, err
	}
	resources, err := resources(s.Limits, b.cgroups)
	if err != nil {
		return nil, err
	}
	rlimits, err := rlimits(s.Limits.Ulimits)
	if err != nil {
		return nil, err
	}
	mounts, err := containerMounts(s, b)
	if err != nil {
		return nil, err
	}
	config := &configs.Config{
		Rootfs:          b.root,
		Readonlyfs:      s.ReadOnly,
		Hostname:        hostname(s),
		Namespaces:      namespaces(s.Network),
		Mounts:          mounts,
		Devices:         specconv.AllowedDevices,
		Capabilities:    caps,
		NoNewPrivileges: s.NoNewPrivileges,
		Rlimits:         rlimits,
		Cgroups:         &cgroups.Cgroup{Path: b.cgroup, Resources: resources},
		// It reaches the first stage only; Init sees to the others.
		ParentDeathSignal: int(unix.SIGKILL),
	}
	if s.Network != "host" {
		config.Networks = []*configs.Network{{Type: "loopback"}}
		config.Sysctl = map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "0",
			"net.ipv4.ping_group_range":           "0 2147483647",
		}
	}
	own, err := ownDevices(s)
	if err != nil {
		return nil, err
	}
	config.Devices = append(slices.Clip(config.Devices), own...)
	if s.Insecure {
		unlock(config)
		return config, nil
	}
	config.MaskPaths = maskedPaths()
	config.ReadonlyPaths = readonlyPaths()
	if config.Seccomp, err = seccompProfile(caps.Bounding); err != nil {
		return nil, err
	}
	for _, d := range config.Devices {
		resources.Devices = append(resources.Devices, &d.Rule)
	}
	return config, nil
}

// ownDevices are those that s has besides the default ones.
func ownDevices(s Spec) ([]*devices.Device, error) {
	all := s.Devices
	if s.HostDevices {
		host, err := hostDevices()
		if err != nil {
			return nil, fmt.Errorf("list the devices of this machine: %w", err)
		}
		all = append(slices.Clip(host), all...)
	}
	var list []*devices.Device
	for _, d := range all {
		list = append(list, d.config())
	}
	return list, nil
}

// unlock lets the container use any device, and write to /sys.
func unlock(config *configs.Config) {
	config.Cgroups.Resources.Devices = []*devices.Rule{{
		Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard,
		Permissions: "rwm", Allow: true,
	}}
	for _, m := range config.Mounts {
		if m.Device == "sysfs" || m.Device == "cgroup" {
			m.Flags &^= unix.MS_RDONLY
		}
	}
}

func namespaces(network string) configs.Namespaces {
	ns := configs.Namespaces{
		{Type: configs.NEWNS}, {Type: configs.NEWPID}, {Type: configs.NEWIPC}, {Type: configs.NEWUTS},
	}
	if configs.IsNamespaceSupported(configs.NEWCGROUP) {
		ns = append(ns, configs.Namespace{Type: configs.NEWCGROUP})
	}
	if network != "host" {
		ns = append(ns, configs.Namespace{Type: configs.NEWNET})
	}
	return ns
}

func hostname(s Spec) string {
	if s.Hostname == "" {
		return defaultHostname
	}
	return s.Hostname
}
