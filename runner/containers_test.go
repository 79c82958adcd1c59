package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

func TestNamespaces(t *testing.T) {
	root := busyboxRoot(t)
	kinds := []string{"mnt", "pid", "ipc", "uts", "cgroup", "net", "user"}
	list := func(network string) map[string]bool {
		own := map[string]bool{}
		out := output(t, root, "for n in "+strings.Join(kinds, " ")+"; do readlink /proc/self/ns/$n; done", func(s *Spec) { s.Network = network })
		for i, inside := range strings.Fields(out) {
			outside, err := os.Readlink("/proc/self/ns/" + kinds[i])
			if err != nil {
				t.Fatal(err)
			}
			own[kinds[i]] = inside != outside
		}
		return own
	}
	want := map[string]bool{"mnt": true, "pid": true, "ipc": true, "uts": true, "cgroup": true, "net": true, "user": false}
	if diff := cmp.Diff(want, list("none")); diff != "" {
		t.Errorf("namespaces of its own with network none (-want +got):\n%s", diff)
	}
	want["net"] = false
	if diff := cmp.Diff(want, list("host")); diff != "" {
		t.Errorf("namespaces of its own with network host (-want +got):\n%s", diff)
	}
}

func TestNetworkNoneHasLoopback(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, `ls /sys/class/net; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo up`)
	if want := "lo\nup"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFilesystems(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, `while read dev dir type opts rest; do
		case $dir in /proc|/dev|/dev/pts|/dev/shm|/dev/mqueue|/sys) echo $dir $type ${opts%%,*};; esac
	done </proc/self/mounts; echo $$; ls -C -w 1 /dev; echo x >/dev/null; umask`)
	want := `/proc proc rw
/dev tmpfs rw
/dev/pts devpts rw
/sys sysfs ro
/dev/mqueue mqueue rw
/dev/shm tmpfs rw
1
fd
full
mqueue
null
ptmx
pts
random
shm
stderr
stdin
stdout
tty
urandom
zero
0022`
	got = strings.Replace(got, "core\n", "", 1) // where the kernel has /proc/kcore
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, `touch /x 2>&1; touch /dev/shm/x && echo shm`, func(s *Spec) { s.ReadOnly = true })
	if want := "touch: /x: Read-only file system\nshm"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExitCodes(t *testing.T) {
	root := busyboxRoot(t)
	write(t, filepath.Join(root, "plain"), "#!/bin/sh\n", 0o644)
	r, _ := newRunner(t)
	for _, tc := range []struct {
		args []string
		code int
		err  string // of a CommandError
	}{
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137, ""},
		{[]string{"nosuch"}, 127, "nosuch: executable file not found"},
		{[]string{"/no/such"}, 127, "/no/such: no such file or directory"},
		{[]string{"/plain"}, 126, "/plain: permission denied"},
		{[]string{"/etc"}, 126, "/etc: is a directory"},
		{[]string{"/plain/x"}, 127, "/plain/x: not a directory"},
	} {
		s := shell(root, "")
		s.Args = tc.args
		out, err := run(t, r, s)
		var exit *ExitError
		var command *CommandError
		switch {
		case tc.err == "" && (!errors.As(err, &exit) || exit.Code != tc.code):
			t.Errorf("%q: %v, want exit code %d; output %q", tc.args, err, tc.code, out)
		case tc.err != "" && (!errors.As(err, &command) || command.Code != tc.code):
			t.Errorf("%q: %v, want a command error of code %d; output %q", tc.args, err, tc.code, out)
		case tc.err != "" && !strings.Contains(err.Error(), tc.err):
			t.Errorf("%q: %v, want %q", tc.args, err, tc.err)
		}
	}
}

func TestSignals(t *testing.T) {
	root := busyboxRoot(t)
	for _, tc := range []struct {
		signal unix.Signal
		want   ExitError
	}{
		{unix.SIGTERM, ExitError{Code: 7}},
		{unix.SIGKILL, ExitError{Code: 137, Signal: 9}},
	} {
		r, _ := newRunner(t)
		p, ready := startReady(t, context.Background(), r, shell(root, `trap "exit 7" TERM; echo ready; while :; do sleep 1 & wait $!; done`))
		<-ready
		if err := p.Signal(tc.signal); err != nil {
			t.Error(err)
		}
		var exit *ExitError
		if err := p.Wait(); !errors.As(err, &exit) || *exit != tc.want {
			t.Errorf("after %v: %v, want %v", tc.signal, err, tc.want)
		}
		if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
	}
}

// startReady starts s. The channel is closed when its output begins.
func startReady(t *testing.T, ctx context.Context, r Runner, s Spec) (Process, <-chan struct{}) {
	t.Helper()
	w := &firstWrite{seen: make(chan struct{})}
	p, err := r.Start(ctx, s, IO{Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	return p, w.seen
}

type firstWrite struct {
	once sync.Once
	seen chan struct{}
}

func (w *firstWrite) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.seen) })
	return len(b), nil
}

func TestCancel(t *testing.T) {
	root := busyboxRoot(t)
	for _, tc := range []struct {
		name, script string
		signal       unix.Signal
		code         int
	}{
		{"kill", `sleep 1000 & setsid sleep 1000 & trap "" TERM; echo ready; wait`, 0, 137},
		{"stop", `trap "exit 5" TERM; echo ready; while :; do sleep 1 & wait $!; done`, unix.SIGTERM, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := newRunner(t)
			s := shell(root, tc.script)
			s.StopSignal = int(tc.signal)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			p, ready := startReady(t, ctx, r, s)
			<-ready
			groups := p.(*process).bundle.cgroups
			cancel()
			var exit *ExitError
			if err := p.Wait(); !errors.As(err, &exit) || exit.Code != tc.code {
				t.Errorf("Wait: %v, want exit code %d", err, tc.code)
			}
			noneLeft(t, groups)
		})
	}
}

// noneLeft fails if any of the control groups exists.
func noneLeft(t *testing.T, groups map[string]string) {
	t.Helper()
	if len(groups) == 0 {
		t.Error("no control groups to look for")
	}
	for _, dir := range groups {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("control group left: %s (%v)", dir, err)
		}
	}
}

func TestCancelledBefore(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Start(ctx, shell(root, "true"), IO{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v", err)
	}
}

func TestParallel(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			out, err := run(t, r, shell(root, "echo $((6*"+strconv.Itoa(i)+")); exit "+strconv.Itoa(i)))
			code := 0
			if exit := (*ExitError)(nil); errors.As(err, &exit) {
				code = exit.Code
			} else if err != nil {
				t.Error(err)
			}
			if want := fmt.Sprintln(6 * i); out != want || code != i {
				t.Errorf("container %d: output %q, exit code %d", i, out, code)
			}
		})
	}
	all.Wait()
}

func TestSameIDTwice(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	ctx, cancel := context.WithCancel(context.Background())
	s := shell(root, "echo ready; sleep 1000")
	p, ready := startReady(t, ctx, r, s)
	<-ready
	_, err := r.Start(ctx, s, IO{})
	if want := "start the container: container " + s.ID + ": in use by a living process"; err == nil || err.Error() != want {
		t.Errorf("second start: %v, want %s", err, want)
	}
	// Nor may a sweep see it as dead.
	if err := r.Sweep(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Signal(unix.Signal(0)); err != nil {
		t.Errorf("after a sweep: %v", err)
	}
	cancel()
	_ = p.Wait()
}

func TestBadSpecs(t *testing.T) {
	good := Spec{ID: "x", Root: bindRoot("/"), Args: []string{"true"}, Network: "none"}
	for _, tc := range []struct {
		change func(*Spec)
		want   string
	}{
		{func(s *Spec) { s.ID = "../x" }, `container ID "../x" is not 1 to 64 of [a-z0-9-]`},
		{func(s *Spec) { s.ID = strings.Repeat("x", 65) }, `container ID "` + strings.Repeat("x", 65) + `" is not 1 to 64 of [a-z0-9-]`},
		{func(s *Spec) { s.Root = nil }, "container has no root filesystem"},
		{func(s *Spec) { s.Args = nil }, "no command to run"},
		{func(s *Spec) { s.Dir = "x" }, `working directory "x" is not absolute`},
		{func(s *Spec) { s.Network = "bridge" }, `unknown network "bridge": use host or none`},
	} {
		s := good
		tc.change(&s)
		if err := check(s); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	if err := check(good); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestNothingLeftInLayer(t *testing.T) {
	lower := busyboxRoot(t)
	dir := t.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	overlay := []snapshot.Mount{{Type: "overlay", Target: "/", Options: []string{
		"lowerdir+=" + lower, "upperdir=" + upper, "workdir=" + work,
	}}}
	output(t, lower, "echo 1.2.3.4 x >>/etc/hosts && cat /etc/resolv.conf /etc/hostname >/dev/null && echo made >/tmp/made",
		func(s *Spec) { s.Root = overlay })
	var found []string
	err := filepath.WalkDir(upper, func(name string, _ os.DirEntry, err error) error {
		found = append(found, strings.TrimPrefix(name, upper))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", "/tmp", "/tmp/made"}, found); diff != "" {
		t.Errorf("upper directory (-want +got):\n%s", diff)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
