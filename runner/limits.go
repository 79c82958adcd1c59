package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

const (
	// cpuPeriod is the period in which a share of the processors is counted, in
	// microseconds; the kernel's own default.
	cpuPeriod = 100_000
	// minMemory is the least that a container starts in; docker's limit.
	minMemory = 6 << 20
	minCPUs   = 0.01

	defaultShmSize = 64 << 20
)

// resources translates limits. paths are the control groups that the container
// will have, by controller; "" is the one of cgroup v2.
func resources(l Limits, paths map[string]string) (*cgroups.Resources, error) {
	r := &cgroups.Resources{}
	switch {
	case l.Memory < 0 || (l.Memory > 0 && l.Memory < minMemory):
		return nil, fmt.Errorf("memory limit of %d bytes is below the minimum of %d", l.Memory, minMemory)
	case l.CPUs < 0 || (l.CPUs > 0 && l.CPUs < minCPUs) || math.IsNaN(l.CPUs) || l.CPUs > 1<<20:
		return nil, fmt.Errorf("processor limit %v is out of range: the least is %v", l.CPUs, minCPUs)
	case l.Pids < 0:
		return nil, fmt.Errorf("process limit %d is negative", l.Pids)
	}
	if l.Memory > 0 {
		r.Memory = l.Memory
		if countsSwap(paths) {
			r.MemorySwap = 2 * l.Memory // memory and swap together, as docker has it
		}
	}
	if l.CPUs > 0 {
		r.CpuPeriod = cpuPeriod
		r.CpuQuota = int64(l.CPUs * cpuPeriod)
	}
	if l.Pids > 0 {
		r.PidsLimit = &l.Pids
	}
	return r, nil
}

// countsSwap tells whether the kernel limits swap; it is a boot option.
func countsSwap(paths map[string]string) bool {
	for controller, file := range map[string]string{
		"memory": "memory.memsw.limit_in_bytes", // v1
		"":       "memory.swap.max",             // v2
	} {
		if p, ok := paths[controller]; ok {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), file)); err == nil {
				return true
			}
		}
	}
	return false
}

// outOfMemory tells whether the kernel killed a process of the control groups
// for want of memory.
func outOfMemory(paths map[string]string) (bool, error) {
	for controller, file := range map[string]string{
		"memory": "memory.oom_control", // v1, Linux 4.13
		"":       "memory.events",      // v2
	} {
		p, ok := paths[controller]
		if !ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join(p, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the unified hierarchy of a hybrid system has no memory controller
		}
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(text)) {
			count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill ")
			if n, err := strconv.ParseUint(count, 10, 64); ok && err == nil && n > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// rlimits translates ulimits.
func rlimits(limits []Ulimit) ([]configs.Rlimit, error) {
	var out []configs.Rlimit
	for _, l := range limits {
		kind, ok := rlimitKind(l.Name)
		if !ok {
			return nil, fmt.Errorf("unknown ulimit %q", l.Name)
		}
		if l.Soft < -1 || l.Hard < -1 || uint64(l.Soft) > uint64(l.Hard) { // -1 is the largest
			return nil, fmt.Errorf("ulimit %s: soft limit %d is above the hard limit %d", l.Name, l.Soft, l.Hard)
		}
		out = append(out, configs.Rlimit{Type: kind, Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	return out, nil
}

func rlimitKind(name string) (int, bool) {
	kinds := map[string]int{
		"as":         unix.RLIMIT_AS,
		"core":       unix.RLIMIT_CORE,
		"cpu":        unix.RLIMIT_CPU,
		"data":       unix.RLIMIT_DATA,
		"fsize":      unix.RLIMIT_FSIZE,
		"locks":      unix.RLIMIT_LOCKS,
		"memlock":    unix.RLIMIT_MEMLOCK,
		"msgqueue":   unix.RLIMIT_MSGQUEUE,
		"nice":       unix.RLIMIT_NICE,
		"nofile":     unix.RLIMIT_NOFILE,
		"nproc":      unix.RLIMIT_NPROC,
		"rss":        unix.RLIMIT_RSS,
		"rtprio":     unix.RLIMIT_RTPRIO,
		"rttime":     unix.RLIMIT_RTTIME,
		"sigpending": unix.RLIMIT_SIGPENDING,
		"stack":      unix.RLIMIT_STACK,
	}
	kind, ok := kinds[name]
	return kind, ok
}
