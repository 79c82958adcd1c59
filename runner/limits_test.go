package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

func TestMemoryLimit(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	s := shell(root, `awk 'BEGIN { s = "x"; while (1) s = s s }'; exit $?`)
	s.Limits.Memory = 64 << 20
	_, err := run(t, r, s)
	var exit *ExitError
	if !errors.As(err, &exit) || !exit.OutOfMemory || exit.Code != 137 {
		t.Fatalf("got %v, want killed for its memory", err)
	}
	if want := "killed for exceeding its memory limit (exit code 137)"; err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	// A failure of another cause is not taken for one.
	s = shell(root, "exit 137")
	s.Limits.Memory = 64 << 20
	if _, err := run(t, r, s); !errors.As(err, &exit) || exit.OutOfMemory {
		t.Errorf("got %v, want a plain exit code", err)
	}
}

func TestOtherLimits(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, `ulimit -n; ulimit -H -n; df -k /dev/shm | tail -n 1 | awk '{print $2}'
		cd /sys/fs/cgroup; cat pids.max pids/pids.max 2>/dev/null
		cat cpu.max 2>/dev/null || echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
		(i=0; while [ $i -lt 30 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done) 2>&1 | grep -o "can't fork" | head -n 1`,
		func(s *Spec) {
			s.Limits = Limits{Pids: 20, CPUs: 0.5, ShmSize: 8 << 20, Ulimits: []Ulimit{{Name: "nofile", Soft: 123, Hard: 456}}}
		})
	want := "123\n456\n8192\n20\n50000 100000\ncan't fork"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The limits that have an effect on a process are told by its control groups, of v1
// or v2.
func TestProcessorLimits(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, `cd /sys/fs/cgroup
		cat cpu.weight 2>/dev/null || cat cpu/cpu.shares
		cat cpu.max 2>/dev/null || echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
		cat cpuset.cpus 2>/dev/null || cat cpuset/cpuset.cpus`,
		func(s *Spec) {
			s.Limits = Limits{CPUShares: 512, CPUPeriod: 50_000, CPUQuota: 25_000, CpusetCpus: "0", CpusetMems: "0"}
		})
	shares := "512"
	if cgroups.IsCgroup2UnifiedMode() {
		shares = strconv.FormatUint(cgroups.ConvertCPUSharesToCgroupV2Value(512), 10)
	}
	if want := shares + "\n25000 50000\n0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A container's control group is in the one that was asked for, and nothing is left
// in that.
func TestCgroupParent(t *testing.T) {
	root, parent := busyboxRoot(t), fmt.Sprintf("lamina-test-%d", os.Getpid())
	r, _ := newRunner(t)
	s := shell(root, "echo started; exec sleep 1000")
	s.Limits.CgroupParent = parent
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, w := io.Pipe()
	p, err := r.Start(ctx, s, IO{Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, name, _ := strings.Cut(line, ":/"); strings.Contains(name, "lamina-") && !strings.HasPrefix(name, parent+"/lamina-") {
			t.Errorf("control group %s is not in %s", line, parent)
		}
	}
	if !strings.Contains(string(text), ":/"+parent+"/lamina-") {
		t.Errorf("no control group is in %s:\n%s", parent, text)
	}
	cancel()
	_ = p.Wait() // killed
	v1, err1 := filepath.Glob("/sys/fs/cgroup/*/" + parent)
	v2, err2 := filepath.Glob("/sys/fs/cgroup/" + parent)
	if err := errors.Join(err1, err2); err != nil || len(v1)+len(v2) == 0 {
		t.Errorf("the parent is nowhere: %v", err)
	}
	for _, dir := range append(v1, v2...) {
		if err := os.Remove(dir); err != nil {
			t.Errorf("something is left: %v", err)
		}
	}
}

func TestResources(t *testing.T) {
	for _, tc := range []struct {
		limits Limits
		err    string
	}{
		{Limits{Memory: 1 << 20}, "memory limit of 1048576 bytes is below the minimum of 6291456"},
		{Limits{Memory: -1}, "memory limit of -1 bytes is below the minimum of 6291456"},
		{Limits{CPUs: 0.001}, "processor limit 0.001 is out of range: the least is 0.01"},
		{Limits{MemorySwap: 1 << 30}, "a limit of memory and swap needs one of memory"},
		{Limits{Memory: 1 << 30, MemorySwap: 1 << 20}, "limit of memory and swap of 1048576 bytes is below that of memory, 1073741824"},
		{Limits{Memory: 1 << 30, MemorySwap: -2}, "limit of memory and swap of -2 bytes is negative"},
		{Limits{CPUPeriod: 10}, "processor period of 10 µs is not between 1000 and 1000000"},
		{Limits{CPUQuota: -1}, "processor quota of -1 µs is below the minimum of 1000"},
		{Limits{CPUs: 1, CPUQuota: 5000}, "a number of processors, and a period or quota, exclude each other"},
		{Limits{CpusetCpus: "0-"}, `"0-" is no list of processors such as 0-2,5`},
		{Limits{CpusetCpus: "3-1"}, `"3-1" is no list of processors such as 0-2,5`},
		{Limits{CpusetMems: "a"}, `"a" is no list of memory nodes such as 0-2,5`},
		{Limits{Pids: -1}, "process limit -1 is negative"},
	} {
		if _, err := resources(tc.limits, nil); err == nil || err.Error() != tc.err {
			t.Errorf("%+v: %v, want %s", tc.limits, err, tc.err)
		}
	}
	r, err := resources(Limits{Memory: 1 << 30, CPUs: 1.5, Pids: 7}, nil)
	if err != nil || r.Memory != 1<<30 || r.MemorySwap != 0 || r.CpuQuota != 150000 || r.CpuPeriod != 100000 || *r.PidsLimit != 7 {
		t.Errorf("got %+v, %v", r, err)
	}
	// v1 and v2 where swap is counted, which a file beside the container's group tells.
	for controller, file := range map[string]string{"memory": "memory.memsw.limit_in_bytes", "": "memory.swap.max"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, file), "", 0o644)
		r, err := resources(Limits{Memory: 1 << 30}, map[string]string{controller: filepath.Join(dir, "x")})
		if err != nil || r.MemorySwap != 2<<30 {
			t.Errorf("%s: swap %d, %v", file, r.MemorySwap, err)
		}
	}
}

func TestOutOfMemory(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		controller, file, text string
		want                   bool
	}{
		{"memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", true},
		{"memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", false},
		{"", "memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n", true},
		{"", "memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 0\noom_group_kill 0\n", false},
	} {
		write(t, filepath.Join(dir, tc.file), tc.text, 0o644)
		got, err := outOfMemory(map[string]string{tc.controller: dir, "pids": dir})
		if err != nil || got != tc.want {
			t.Errorf("%s %q: %v, %v", tc.file, tc.text, got, err)
		}
		if err := os.Remove(filepath.Join(dir, tc.file)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRlimits(t *testing.T) {
	got, err := rlimits([]Ulimit{{"nofile", 1, 2}, {"core", -1, -1}, {"nproc", 5, -1}})
	want := []configs.Rlimit{
		{Type: unix.RLIMIT_NOFILE, Soft: 1, Hard: 2},
		{Type: unix.RLIMIT_CORE, Soft: unix.RLIM_INFINITY, Hard: unix.RLIM_INFINITY},
		{Type: unix.RLIMIT_NPROC, Soft: 5, Hard: unix.RLIM_INFINITY},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, tc := range []struct {
		limit Ulimit
		err   string
	}{
		{Ulimit{"wings", 1, 1}, `unknown ulimit "wings"`},
		{Ulimit{"nofile", 3, 2}, "ulimit nofile: soft limit 3 is above the hard limit 2"},
		{Ulimit{"nofile", -1, 2}, "ulimit nofile: soft limit -1 is above the hard limit 2"},
	} {
		if _, err := rlimits([]Ulimit{tc.limit}); err == nil || !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v: %v, want %s", tc.limit, err, tc.err)
		}
	}
}
