package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBench measures lamina beside Debian's buildah and podman, and prints a
// table. All build the same Dockerfiles, on stores of their own, with RUN on this
// machine's network; each build is repeated, and the median counts. Processor
// time is that of every process that a build started.
func TestBench(t *testing.T) {
	if os.Getenv("LAMINA_BENCH") == "" {
		t.Skip("LAMINA_BENCH is not set; make bench sets it")
	}
	needRun(t)
	// What a builder leaves to init is to be counted, too.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	l := newTool(t)
	l.busybox()
	builders := []builder{{"lamina", []string{l.path, "build", "--quiet", "--root", l.root}}}
	for name, args := range map[string][]string{
		"buildah": {"bud", "--quiet", "--layers", "--network=host", "--pull-never"},
		"podman":  {"build", "--quiet", "--layers", "--network=host", "--pull=never"},
	} {
		if _, err := exec.LookPath(name); err != nil {
			t.Logf("%s is not installed", name)
			continue
		}
		dir, err := os.MkdirTemp("/tmp", "lamina-") // podman wants a short name
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeStorage(dir) })
		storage := []string{name, "--root", dir + "/root", "--runroot", dir + "/run"}
		builders = append(builders, builder{name, append(storage, args...)})
	}
	slices.SortFunc(builders[min(1, len(builders)):], func(a, b builder) int { return strings.Compare(a.name, b.name) })

	fmt.Println("| build | | CPU | wall | memory | CPU, times lamina's |\n|---|---|---:|---:|---:|---:|")
	for _, w := range workloads() {
		if w.prepare != nil {
			w.prepare(l)
		}
		var ours float64
		for _, b := range builders {
			c := w.measure(l, b)
			if ours == 0 {
				ours = c.cpu
			}
			fmt.Printf("| %s | %s | %s | %s | %.0f MB | %.1f |\n", w.name, b.name, seconds(c.cpu), seconds(c.wall), c.memory/1000, c.cpu/ours)
		}
	}
}

// builder is a program that builds images: arguments are to follow.
type builder struct {
	name string
	args []string
}

// workload is a build to be measured.
type workload struct {
	name       string
	dockerfile string
	args       []string
	per        float64 // what the figures are divided by
	repeat     int
	prepare    func(l *tool)        // before all
	change     func(l *tool, n int) // before each repetition
}

func workloads() []workload {
	steps := busyboxBase
	for i := range 8 {
		steps += fmt.Sprintf("RUN echo %d > /step%d\n", i, i)
	}
	return []workload{{
		name: "ten steps, all cached", dockerfile: steps, per: 1, repeat: 11,
	}, {
		name: "`RUN :`, each of 20", dockerfile: busyboxBase + strings.Repeat("RUN :\n", 20),
		args: []string{"--no-cache"}, per: 22, repeat: 3,
	}, {
		name: "one edited of 20,000 files", dockerfile: "FROM scratch\nCOPY tree /tree\n", per: 1, repeat: 5,
		prepare: func(l *tool) {
			for i := range 20000 {
				l.file(fmt.Sprintf("tree/%d/%d/file%d", i%20, i%400, i), strings.Repeat(strconv.Itoa(i), 200))
			}
		},
		change: func(l *tool, n int) { l.file("tree/0/0/file0", fmt.Sprint("edit ", n)) },
	}}
}

// cost is what a build takes: seconds, seconds, and kilobytes at the peak of the
// largest process.
type cost struct{ cpu, wall, memory float64 }

// measure builds once without looking, and then as often as is wanted.
func (w *workload) measure(l *tool, b builder) cost {
	l.Helper()
	l.file("Dockerfile", w.dockerfile)
	var cpu, wall, memory []float64
	for n := range w.repeat + 1 {
		if w.change != nil {
			w.change(l, n)
		}
		args := slices.Concat(b.args, w.args, []string{"-t", "localhost/measured", "."})
		if n == 0 {
			args = slices.Concat(b.args, []string{"-t", "localhost/measured", "."})
		}
		c := measure(l, args)
		if n > 0 {
			cpu, wall, memory = append(cpu, c.cpu/w.per), append(wall, c.wall/w.per), append(memory, c.memory)
		}
	}
	return cost{median(cpu), median(wall), median(memory)}
}

// measure executes a program, and waits for whatever it leaves behind. The peak of
// memory is asked of GNU time: the kernel also counts who forked a process.
func measure(l *tool, args []string) cost {
	l.Helper()
	report := filepath.Join(l.dir, "../peak")
	cmd := exec.Command("/usr/bin/time", append([]string{"-f", "%M", "-o", report}, args...)...)
	cmd.Dir = l.dir
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	c := cost{wall: time.Since(begin).Seconds()}
	if err != nil {
		l.Fatalf("%q: %v\n%s", args, err, out)
	}
	c.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() + orphans(l)
	text, err := os.ReadFile(report)
	if err != nil {
		l.Fatal(err)
	}
	if c.memory, err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err != nil {
		l.Fatal(err)
	}
	return c
}

// orphans waits for the processes that this one has inherited, and returns the
// processor time they took, in seconds.
func orphans(l *tool) (cpu float64) {
	l.Helper()
	for {
		var usage syscall.Rusage
		_, err := syscall.Wait4(-1, nil, 0, &usage)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return cpu
		case err != nil && !errors.Is(err, syscall.EINTR):
			l.Fatal(err)
		}
		cpu += float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.0f ms", 1000*s)
	}
	return fmt.Sprintf("%.2f s", s)
}

// removeStorage removes a store of buildah or podman, which leaves mounts in it.
func removeStorage(dir string) {
	info, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], dir) {
			unix.Unmount(fields[4], unix.MNT_DETACH)
		}
	}
	os.RemoveAll(dir)
}
