package runner

import (
	"cmp"
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
	// minPeriod and maxPeriod are the kernel's, in microseconds.
	minPeriod = 1_000
	maxPeriod = 1_000_000

	defaultShmSize = 64 << 20
)

// Limits bound what the container may use; zero means no limit.
type Limits struct {
	Memory int64 // bytes
	// MemorySwap is memory and swap together, in bytes; -1 is no limit of swap, 0 is
	// twice Memory where the kernel counts swap.
	MemorySwap int64
	CPUs       float64 // processors
	// CPUShares is a weight, of 1024 usually, against other control groups.
	CPUShares uint64
	// CPUQuota is how long all threads together may run in each CPUPeriod, both in
	// microseconds; CPUs says the same in another way.
	CPUPeriod uint64
	CPUQuota  int64
	// CpusetCpus and CpusetMems are the processors and memory nodes to use: "0-3,7".
	CpusetCpus, CpusetMems string
	Pids                   int64
	ShmSize                int64 // bytes of /dev/shm; 0 is 64 MiB
	Ulimits                []Ulimit
	// CgroupParent is the control group that the container's is made in, a path from
	// the root of the hierarchy; empty is that of this process.
	CgroupParent string
}

// Check reports limits that no kernel takes.
func (l Limits) Check() error {
	switch {
	case l.Memory < 0 || (l.Memory > 0 && l.Memory < minMemory):
		return fmt.Errorf("memory limit of %d bytes is below the minimum of %d", l.Memory, minMemory)
	case l.MemorySwap < -1:
		return fmt.Errorf("limit of memory and swap of %d bytes is negative", l.MemorySwap)
	case l.MemorySwap != 0 && l.Memory == 0:
		return errors.New("a limit of memory and swap needs one of memory")
	case l.MemorySwap > 0 && l.MemorySwap < l.Memory:
		return fmt.Errorf("limit of memory and swap of %d bytes is below that of memory, %d", l.MemorySwap, l.Memory)
	case l.CPUs < 0 || (l.CPUs > 0 && l.CPUs < minCPUs) || math.IsNaN(l.CPUs) || l.CPUs > 1<<20:
		return fmt.Errorf("processor limit %v is out of range: the least is %v", l.CPUs, minCPUs)
	case l.CPUs > 0 && (l.CPUPeriod != 0 || l.CPUQuota != 0):
		return errors.New("a number of processors, and a period or quota, exclude each other")
	case l.CPUPeriod != 0 && (l.CPUPeriod < minPeriod || l.CPUPeriod > maxPeriod):
		return fmt.Errorf("processor period of %d µs is not between %d and %d", l.CPUPeriod, minPeriod, maxPeriod)
	case l.CPUQuota < 0 || l.CPUQuota > 0 && l.CPUQuota < minPeriod:
		return fmt.Errorf("processor quota of %d µs is below the minimum of %d", l.CPUQuota, minPeriod)
	case l.Pids < 0:
		return fmt.Errorf("process limit %d is negative", l.Pids)
	}
	return errors.Join(checkSet("processors", l.CpusetCpus), checkSet("memory nodes", l.CpusetMems))
}

// checkSet reports what is no list of numbers and ranges, "0-3,7" (cpuset(7),
// "List format").
func checkSet(of, list string) error {
	if list == "" {
		return nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return fmt.Errorf("%q is no list of %s such as 0-2,5", list, of)
		}
	}
	return nil
}

// resources translates limits. paths are the control groups that the container
// will have, by controller; "" is the one of cgroup v2.
func resources(l Limits, paths map[string]string) (*cgroups.Resources, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	r := &cgroups.Resources{
		Memory: l.Memory, CpuShares: l.CPUShares, CpuPeriod: l.CPUPeriod, CpuQuota: l.CPUQuota,
		CpusetCpus: l.CpusetCpus, CpusetMems: l.CpusetMems,
	}
	if l.Memory > 0 && countsSwap(paths) {
		r.MemorySwap = cmp.Or(l.MemorySwap, 2*l.Memory)
	}
	if l.CPUShares > 0 {
		r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(l.CPUShares)
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
