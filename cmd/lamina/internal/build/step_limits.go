package build

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"lamina/cmd/lamina/internal/cli"
	"lamina/runner"
)

// limitOptions bound what a RUN may use.
type limitOptions struct {
	memory, shmSize        cli.ByteSize
	memorySwap             swapSize
	cpus                   float64
	cpuShares, cpuPeriod   uint64
	cpuQuota               int64
	cpusetCpus, cpusetMems string
	ulimits                []string
	cgroupParent           string
	resources              []string
}

func (o *limitOptions) register(f *pflag.FlagSet) {
	f.VarP(&o.memory, "memory", "m", "Memory limit of a RUN")
	f.Var(&o.memorySwap, "memory-swap", "Limit of memory and swap together of a RUN; -1 for no limit of swap")
	f.Float64Var(&o.cpus, "cpus", 0, "Number of processors that a RUN may use")
	f.Uint64VarP(&o.cpuShares, "cpu-shares", "c", 0, "Weight of a RUN against others, of 1024 usually")
	f.Uint64Var(&o.cpuPeriod, "cpu-period", 0, "Period of --cpu-quota in microseconds")
	f.Int64Var(&o.cpuQuota, "cpu-quota", 0, "Processor time of a RUN in each period, in microseconds")
	f.StringVar(&o.cpusetCpus, "cpuset-cpus", "", "Processors that a RUN may use (0-3,7)")
	f.StringVar(&o.cpusetMems, "cpuset-mems", "", "Memory nodes that a RUN may use (0-3,7)")
	f.StringArrayVar(&o.resources, "resource", nil, "Limits as a list (memory=,memory-swap=,cpu-shares=,cpu-period=,cpu-quota=,cpuset-cpus=,cpuset-mems=)")
	f.Var(&o.shmSize, "shm-size", "Size of /dev/shm in RUN")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "Limit of RUN (NAME=SOFT[:HARD])")
	f.StringVar(&o.cgroupParent, "cgroup-parent", "", "Control group to make those of RUN in")
}

// limits are what o says, --resource included.
func (o limitOptions) limits() (runner.Limits, error) {
	for _, list := range o.resources {
		if err := o.resource(list); err != nil {
			return runner.Limits{}, fmt.Errorf("--resource=%s: %w", list, err)
		}
	}
	l := runner.Limits{
		Memory: int64(o.memory), MemorySwap: int64(o.memorySwap), CPUs: o.cpus,
		CPUShares: o.cpuShares, CPUPeriod: o.cpuPeriod, CPUQuota: o.cpuQuota,
		CpusetCpus: o.cpusetCpus, CpusetMems: o.cpusetMems, CgroupParent: o.cgroupParent,
	}
	if o.memory < 0 {
		return l, fmt.Errorf("--memory=%s: must not be negative", &o.memory)
	}
	return l, l.Check()
}

// resource sets what a list of --resource says.
func (o *limitOptions) resource(list string) error {
	fields, err := csvFields(list)
	if err != nil {
		return err
	}
	for _, f := range fields {
		set, known := map[string]func(string) error{
			"memory":      o.memory.Set,
			"memory-swap": o.memorySwap.Set,
			"cpu-shares":  number(&o.cpuShares),
			"cpu-period":  number(&o.cpuPeriod),
			"cpu-quota":   number(&o.cpuQuota),
			"cpuset-cpus": func(s string) error { o.cpusetCpus = s; return nil },
			"cpuset-mems": func(s string) error { o.cpusetMems = s; return nil },
		}[strings.ToLower(f.key)]
		if !known {
			return fmt.Errorf("unknown key %q, want memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems", f.key)
		}
		if f.value == "" {
			return fmt.Errorf("%s has no value", f.key)
		}
		if err := set(f.value); err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return nil
}

// number returns what sets p.
func number[T uint64 | int64](p *T) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseInt(s, 10, 63)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is no number", s)
		}
		*p = T(n)
		return nil
	}
}

// swapSize is a byteSize that may also be -1, no limit.
type swapSize int64

func (b *swapSize) String() string {
	if *b == -1 {
		return "-1"
	}
	return (*cli.ByteSize)(b).String()
}

func (b *swapSize) Set(s string) error {
	if s == "-1" {
		*b = -1
		return nil
	}
	return (*cli.ByteSize)(b).Set(s)
}

// Type names the kind of value in help texts.
func (*swapSize) Type() string { return "bytes" }
