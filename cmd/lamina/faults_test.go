package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"lamina/cache/registry/registrytest"
	"lamina/cmd/lamina/internal/cli"
)

// Whatever goes wrong, there is one error that says what, the exit code is right,
// and the store is as good as before.

// fails fails the test unless r is a failure with this exit code and one error,
// whose first line want describes.
func (l *tool) fails(r result, code int, want string) {
	l.Helper()
	if r.code != code {
		l.Errorf("exit code %d, want %d", r.code, code)
	}
	var errs []string
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "lamina: ") || regexp.MustCompile(`^[\w.-]*ockerfile:\d+: `).MatchString(line) {
			errs = append(errs, strings.TrimSpace(line))
		}
	}
	if len(errs) != 1 || !regexp.MustCompile("^"+want+"$").MatchString(errs[0]) {
		l.Errorf("the errors are %q, want one that matches %q, in:\n%s", errs, want, r.stderr)
	}
}

// usable fails the test unless the store can be built in, and holds nothing that
// should not be there.
func (l *tool) usable() {
	l.Helper()
	l.file("usable/Dockerfile", "FROM scratch\nCOPY . /usable\n")
	l.must("build", "--quiet", "--no-cache", "-t", "usable", "usable")
	l.clean()
}

func TestFaultSyntax(t *testing.T) {
	l := newTool(t)
	l.file("Dockerfile", "FROM scratch\nCOPY only-one\n")
	l.fails(l.run("build", "."), cli.ExitFailure, `Dockerfile:2: COPY needs a source and a destination`)
	l.file("Dockerfile", "FROM scratch\nCOPPY a b\n")
	l.fails(l.run("build", "."), cli.ExitFailure, `Dockerfile:2: unknown instruction "COPPY"`)
	l.fails(l.run("build", "--tga=x", "."), cli.ExitUsage, `lamina: unknown flag: --tga`)
	l.fails(l.run("build", "--tag", "A B", "."), cli.ExitUsage, `lamina: image name "A B": .*`)
	l.fails(l.run("build", "--cpus=-1", "."), cli.ExitUsage, `lamina: --cpus=-1: .*`)
	l.fails(l.run("build", "nowhere"), cli.ExitFailure, `lamina: .*nowhere.*`)
	l.usable()
}

func TestFaultUnknownBase(t *testing.T) {
	l := newTool(t)
	reg := registrytest.New(t)
	l.file("Dockerfile", "FROM "+reg.Host+"/nothing:1\n")
	l.fails(l.run("build", "."), cli.ExitFailure, `Dockerfile:1: `+reg.Host+`/nothing:1: not found in .*`)
	l.file("Dockerfile", "FROM 127.0.0.1:1/nothing\n")
	l.fails(l.run("build", "."), cli.ExitFailure, `Dockerfile:1: .* cannot reach 127.0.0.1:1: .*connection refused`)
	l.usable()
}

func TestFaultRun(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	l.file("Dockerfile", busyboxBase+"FROM base\nRUN echo about to fail; exit 7\n")
	r := l.run("build", ".")
	l.fails(r, cli.ExitFailure, `Dockerfile:5: .*RUN echo about to fail; exit 7.*: exit code 7`)
	if !strings.Contains(r.stderr, " >   5 | RUN echo about to fail; exit 7\n") {
		t.Errorf("the Dockerfile's line is not shown:\n%s", r.stderr)
	}
	l.file("Dockerfile", busyboxBase+"FROM base\nRUN [\"/bin/nothing\"]\n")
	l.fails(l.run("build", "."), cli.ExitFailure, `Dockerfile:5: .*nothing.*`)
	l.usable()
}

// A file of the context goes while an earlier step runs.
func TestFaultContextVanishes(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	l.file("gone", "now you see me\n")
	step := during(t, func() { os.Remove(filepath.Join(l.dir, "gone")) })
	l.file("Dockerfile", busyboxBase+"FROM base\n"+step+"COPY gone /\n")
	l.fails(l.run("build", "."), cli.ExitFailure, `Dockerfile:6: .*"gone" not found.*`)
	l.usable()
}

// ^C while a process runs.
func TestFaultInterrupt(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	running := make(chan struct{})
	step := during(t, func() { close(running); <-t.Context().Done() })
	l.file("Dockerfile", busyboxBase+"FROM base\n"+step)
	cmd := l.command("build", ".")
	ended := make(chan result)
	go func() { ended <- finish(t, cmd) }()
	<-running
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	l.fails(<-ended, cli.ExitInterrupted, "lamina: interrupted")
	l.usable()
}

// during returns a RUN during which f is called, and which ends after it.
func during(t *testing.T, f func()) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { f() }))
	t.Cleanup(srv.CloseClientConnections)
	return "RUN wget -q -O /dev/null " + srv.URL + "\n"
}

func TestFaultDiskFull(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	const mb = 1 << 20
	l.file("large", strings.Repeat("0123456789abcdef", 8*mb/16))
	l.file("Dockerfile", busyboxBase+`FROM base
COPY large /
RUN cat /large /large > /larger
`)
	// The fuller the disk, the earlier the step that fails; at last none does.
	failed := map[string]int{}
	for _, size := range []int{1, 4, 8, 12, 20, 24, 26, 64} {
		l.root = smallDisk(t, size*mb)
		r := l.run("build", "-t", "large", ".")
		if r.code == 0 {
			failed["nothing"]++
			continue
		}
		l.fails(r, cli.ExitFailure, `(Dockerfile:\d|lamina): .*(no space left on device|exit code 1)`)
		if !strings.Contains(strings.ToLower(r.stderr), "no space left on device") {
			t.Errorf("with %d MB it is not said what is wrong:\n%s", size, r.stderr)
		}
		step, _, _ := strings.Cut(regexp.MustCompile(`(?m)^(Dockerfile:\d+|lamina): `).FindString(r.stderr), ": ")
		failed[step]++
		// What the steps before it made is kept, and may leave room for nothing.
		growDisk(t, l.root, 64*mb)
		l.usable()
	}
	t.Logf("what failed for lack of space, and how often: %v", failed)
	if len(failed) < 4 {
		t.Errorf("want failures of more kinds: %v", failed)
	}
}

// smallDisk mounts a filesystem of that many bytes for the time of the test.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// growDisk gives a small disk more room.
func growDisk(t *testing.T, dir string, size int) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
}

func TestFaultPushBreaks(t *testing.T) {
	l := newTool(t)
	reg := registrytest.New(t)
	l.file("file", strings.Repeat("some content\n", 1<<16))
	l.file("Dockerfile", "FROM scratch\nCOPY file /\n")
	image := reg.Host + "/app"
	reg.Inject("PUT /blobs/", -1, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		go reg.Close()
		<-r.Context().Done()
	})
	l.fails(l.run("build", "-t", image, "--push", "."), cli.ExitFailure, `lamina: .*`+reg.Host+`.*`)
	l.usable()
	if got := l.must("images", "-q", image); got == "" {
		t.Error("the image that could not be pushed is not in the store")
	}
	healthy := registrytest.New(t).Host + "/app"
	l.must("tag", image, healthy)
	l.must("push", healthy)
}

func TestFaultWrongBytes(t *testing.T) {
	l := newTool(t)
	reg := registrytest.New(t)
	image := reg.Host + "/app"
	l.file("file", strings.Repeat("some content\n", 1<<16))
	l.file("Dockerfile", "FROM scratch\nCOPY file /\n")
	l.must("build", "-t", image, "--push", ".")

	l.root = filepath.Join(t.TempDir(), "other")
	l.file("Dockerfile", "FROM scratch\nCOPY --from="+image+" /file /copy\n")
	var flipped atomic.Int64 // the byte of each blob that is wrong
	reg.Inject("GET /blobs/", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		registrytest.Flip(flipped.Load())(w, r, next)
	})
	// The image's configuration is shorter than its layer.
	for _, at := range []int64{10, 1000} {
		flipped.Store(at)
		l.fails(l.run("build", "-t", "copy", "."), cli.ExitFailure, `Dockerfile:2: .*`+reg.Host+` sent content whose digest is .*`)
		l.usable()
	}
	flipped.Store(1 << 30)
	l.must("build", "-t", "copy", ".")
	l.usable()
}
