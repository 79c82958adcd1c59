package runner

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Targets are the places in s.Root that will be mounted on. Give them to
// snapshot.Driver.Begin, so that they exist and leave nothing in the layer.
func Targets(s Spec) []snapshot.Target {
	targets := []snapshot.Target{
		{Path: "/proc", Dir: true},
		{Path: "/dev", Dir: true},
		{Path: "/sys", Dir: true},
	}
	for _, f := range networkFiles(s) {
		targets = append(targets, snapshot.Target{Path: f})
	}
	for _, m := range s.Mounts {
		if hides(m.Target) {
			continue // made in the container's own /dev
		}
		targets = append(targets, snapshot.Target{Path: m.Target, Dir: isDir(m)})
	}
	for _, f := range s.Files {
		if !hides(f.Target) {
			targets = append(targets, snapshot.Target{Path: f.Target})
		}
	}
	return targets
}

// isDir tells whether m makes a directory. What a source inside another root is
// can be told only when that is mounted; its option "file" says it.
func isDir(m snapshot.Mount) bool {
	if m.Type != "bind" {
		return true
	}
	if staged(m) {
		return !slices.Contains(m.Options, optionFile)
	}
	info, err := os.Stat(m.Source)
	return err != nil || info.IsDir() // an error will be told by Start
}

// hides tells whether target is in a filesystem that the container gets anyway.
func hides(target string) bool {
	for _, dir := range []string{"/dev/", "/proc/", "/sys/"} {
		if strings.HasPrefix(path.Clean(target), dir) {
			return true
		}
	}
	return false
}

// optionFile tells that a bind of a part of another root shows a file.
const optionFile = "file"

const plainFlags = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

// defaultMounts are docker's.
func defaultMounts(shmSize int64) []*configs.Mount {
	if shmSize == 0 {
		shmSize = defaultShmSize
	}
	return []*configs.Mount{
		{Device: "proc", Source: "proc", Destination: "/proc", Flags: plainFlags},
		{Device: "tmpfs", Source: "tmpfs", Destination: "/dev", Flags: unix.MS_NOSUID | unix.MS_STRICTATIME,
			Data: "mode=755,size=65536k"},
		{Device: "devpts", Source: "devpts", Destination: "/dev/pts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC,
			Data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{Device: "sysfs", Source: "sysfs", Destination: "/sys", Flags: plainFlags | unix.MS_RDONLY},
		{Device: "cgroup", Source: "cgroup", Destination: "/sys/fs/cgroup", Flags: plainFlags | unix.MS_RDONLY},
		{Device: "mqueue", Source: "mqueue", Destination: "/dev/mqueue", Flags: plainFlags},
		{Device: "tmpfs", Source: "shm", Destination: "/dev/shm", Flags: plainFlags,
			Data: "mode=1777,size=" + strconv.FormatInt(shmSize, 10)},
	}
}

// containerMounts are all mounts inside the root, in order: the default ones, in
// the places of which are those of s that replace them, the network's files, then
// the others of s.
func containerMounts(s Spec, b bundle) ([]*configs.Mount, error) {
	var own []*configs.Mount
	at := map[string]int{} // the last one on a target, in own
	for i, m := range s.Mounts {
		c, err := containerMount(i, m, b)
		if err != nil {
			return nil, err
		}
		at[path.Clean(m.Target)] = len(own)
		own = append(own, c)
	}
	var mounts []*configs.Mount
	for _, m := range defaultMounts(s.Limits.ShmSize) {
		if i, replaced := at[m.Destination]; replaced {
			m, own[i] = own[i], nil
		}
		mounts = append(mounts, m)
	}
	for _, f := range networkFiles(s) {
		if _, replaced := at[f]; !replaced {
			mounts = append(mounts, bindMount(filepath.Join(b.dir, path.Base(f)), f, nil))
		}
	}
	if s.Init {
		mounts = append(mounts, bindMount(b.self, initPath, []string{"ro"}))
	}
	for _, m := range own {
		if m != nil {
			mounts = append(mounts, m)
		}
	}
	for i, f := range s.Files {
		mounts = append(mounts, bindMount(b.memory(i), f.Target, f.options()))
	}
	return mounts, nil
}

// containerMount is m, the one of number i.
func containerMount(i int, m snapshot.Mount, b bundle) (*configs.Mount, error) {
	switch m.Type {
	case "tmpfs":
		return tmpfsMount(m)
	case "bind", "overlay":
		source := m.Source
		if staged(m) {
			source = b.stage(i)
		}
		return bindMount(source, m.Target, m.Options), nil
	}
	return nil, fmt.Errorf("mount on %s: unknown type %q", m.Target, m.Type)
}

// staged tells whether m is performed beside the root first, and only bound into
// it: libcontainer knows binds of absolute paths.
func staged(m snapshot.Mount) bool {
	return m.Type == "overlay" || m.Type == "bind" && !filepath.IsAbs(m.Source)
}

func bindMount(source, target string, options []string) *configs.Mount {
	m := &configs.Mount{
		Device: "bind", Source: source, Destination: target,
		Flags:            unix.MS_BIND,
		PropagationFlags: []int{unix.MS_PRIVATE | unix.MS_REC},
	}
	if slices.Contains(options, "rbind") {
		m.Flags |= unix.MS_REC
	}
	var attr uint64
	if slices.Contains(options, "ro") {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	if slices.Contains(options, "noexec") {
		attr |= unix.MOUNT_ATTR_NOEXEC
	}
	if attr != 0 {
		m.RecAttr = &unix.MountAttr{Attr_set: attr}
	}
	return m
}

func tmpfsMount(m snapshot.Mount) (*configs.Mount, error) {
	t := &configs.Mount{
		Device: "tmpfs", Source: "tmpfs", Destination: m.Target,
		Flags: unix.MS_NOSUID | unix.MS_NODEV,
	}
	var data []string
	for _, o := range m.Options {
		key, _, valued := strings.Cut(o, "=")
		switch {
		case o == "ro":
			t.Flags |= unix.MS_RDONLY
		case o == "noexec":
			t.Flags |= unix.MS_NOEXEC
		case valued && slices.Contains([]string{"size", "mode", "uid", "gid"}, key):
			data = append(data, o)
		default:
			return nil, fmt.Errorf("mount on %s: unknown option %q of tmpfs", m.Target, o)
		}
	}
	t.Data = strings.Join(data, ",")
	return t, nil
}
