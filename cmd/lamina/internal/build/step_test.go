package build

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"lamina/frontend"
	"lamina/runner"
	"lamina/solver"
)

func TestHosts(t *testing.T) {
	for _, tc := range []struct{ flag, want string }{
		{"db:10.0.0.1", "db=10.0.0.1"},
		{"db=10.0.0.1", "db=10.0.0.1"},
		{"six:2001:db8::1", "six=2001:db8::1"},
		{"six:[2001:db8::1]", "six=2001:db8::1"},
		{"six=[2001:db8::1]", "six=2001:db8::1"},
		{"me:host-gateway", "me=127.0.0.1"},
		{"UP.per:1.2.3.4", "up.per=1.2.3.4"},
		{"db", ""}, {"db:", ""}, {":1.2.3.4", ""}, {"db:here", ""}, {"d b:1.2.3.4", ""}, {"six:[2001:db8::1", ""}, {"db:[here]", ""},
	} {
		got, err := buildHosts([]string{tc.flag})
		if tc.want == "" {
			if want := "--add-host=" + tc.flag + ": want HOST:IP"; err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", tc.flag, err, want)
			}
			continue
		}
		if err != nil || len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: %q, %v, want %s", tc.flag, got, err, tc.want)
		}
	}
}

func TestAllow(t *testing.T) {
	for _, tc := range []struct {
		flags   []string
		network string
		want    frontend.Allow
	}{
		{nil, "default", frontend.Allow{}},
		{nil, "host", frontend.Allow{NetworkHost: true}},
		{[]string{"network.host", localDelete}, "none", frontend.Allow{NetworkHost: true}},
		{[]string{"security.insecure"}, "", frontend.Allow{Insecure: true}},
	} {
		got, err := parseAllow(tc.flags, tc.network)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", tc.flags, err, diff)
		}
	}
	for _, flag := range []string{"", "all", "network", "security.insecure=true"} {
		if _, err := parseAllow([]string{flag}, ""); err == nil {
			t.Errorf("--allow=%s is accepted", flag)
		}
	}
}

func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	volume := func(m solver.RunMount) solver.RunMount {
		m.Type, m.Source = solver.MountVolume, dir
		return m
	}
	for _, tc := range []struct {
		flag string
		want solver.RunMount
	}{
		{dir + ":/v", volume(solver.RunMount{Target: "/v"})},
		{".:/v/", volume(solver.RunMount{Target: "/v"})},
		{".:/v:ro,z", volume(solver.RunMount{Target: "/v", ReadOnly: true})},
		{".:/v:O", volume(solver.RunMount{Target: "/v", Discard: true})},
		{".:/v:rw", volume(solver.RunMount{Target: "/v"})},
	} {
		got, err := parseVolume(tc.flag)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tc.flag, err, diff)
		}
	}
	for _, flag := range []string{"", ".", ".:v", ".:/", ":/v", "nowhere:/v", ".:/v:ro:x", ".:/v:U", ".:/v:ro,O"} {
		if _, err := parseVolume(flag); err == nil {
			t.Errorf("--volume=%s is accepted", flag)
		}
	}
}

func TestLimitFlags(t *testing.T) {
	parse := func(args ...string) (runner.Limits, error) {
		var o limitOptions
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.register(f)
		if err := f.Parse(args); err != nil {
			return runner.Limits{}, err
		}
		return o.limits()
	}
	for _, tc := range []struct {
		args []string
		want runner.Limits
	}{
		{nil, runner.Limits{}},
		{[]string{"-m", "64m", "--memory-swap", "-1", "-c", "512"}, runner.Limits{Memory: 64 << 20, MemorySwap: -1, CPUShares: 512}},
		{[]string{"--memory=1g", "--memory-swap=2g", "--cpuset-cpus=0-1", "--cpuset-mems=0"},
			runner.Limits{Memory: 1 << 30, MemorySwap: 2 << 30, CpusetCpus: "0-1", CpusetMems: "0"}},
		{[]string{"--cpu-period=50000", "--cpu-quota=25000", "--cgroup-parent=builds"},
			runner.Limits{CPUPeriod: 50000, CPUQuota: 25000, CgroupParent: "builds"}},
		{[]string{"--resource", "memory=64m,memory-swap=-1,cpu-shares=3", "--resource", "cpu-period=50000,cpu-quota=25000", "--resource", `"cpuset-cpus=0,1",cpuset-mems=0`},
			runner.Limits{Memory: 64 << 20, MemorySwap: -1, CPUShares: 3, CPUPeriod: 50000, CPUQuota: 25000, CpusetCpus: "0,1", CpusetMems: "0"}},
	} {
		got, err := parse(tc.args...)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", tc.args, err, diff)
		}
	}
	for _, args := range [][]string{
		{"--memory=x"}, {"--memory-swap=-2"}, {"--resource=memory"}, {"--resource=cpu-shares=-1"}, {"--resource=pids=3"},
		{"--resource=cpu-quota=x"}, {"--cpu-shares=-1"}, {"--memory-swap=1g"},
	} {
		if got, err := parse(args...); err == nil {
			t.Errorf("%q is accepted: %+v", args, got)
		}
	}
}

func TestClassicFlags(t *testing.T) {
	var o classicOptions
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.register(f)
	if notes := o.notes(); len(notes) != 0 {
		t.Errorf("without a flag: %q", notes)
	}
	if err := f.Parse([]string{"--rm=false", "--builder=x", "--security-opt=a", "--security-opt=b"}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--rm has no effect: nothing is left of a step anyway",
		"--builder has no effect: lamina builds in this process",
		"--security-opt has no effect: RUN --security in the Dockerfile says how a step is confined",
	}
	if diff := cmp.Diff(want, o.notes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
