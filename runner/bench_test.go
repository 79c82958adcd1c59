package runner

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkTrue measures a whole container that runs true. Its processor time,
// in this process and in its children, is reported as cpu-ms/op.
func BenchmarkTrue(b *testing.B) {
	root := busyboxRoot(b)
	r, _ := newRunner(b)
	before := cpuTime(b)
	for b.Loop() {
		s := shell(root, "")
		s.Args = []string{"/bin/true"}
		p, err := r.Start(context.Background(), s, IO{})
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime(b)-before)/float64(b.N), "cpu-ms/op")
}

// cpuTime is what this process and its ended children used, in milliseconds.
func cpuTime(b *testing.B) float64 {
	var sum float64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
	}
	return sum
}
