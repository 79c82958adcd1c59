package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"lamina/runner"
)

// tool drives lamina from outside, as a user does, on a store of its own: the
// program named by $LAMINA, or else this test as that program.
type tool struct {
	testing.TB
	path string
	root string // of the store
	dir  string // where it is executed
}

func newTool(t testing.TB) *tool {
	t.Helper()
	path := os.Getenv("LAMINA")
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), "lamina")
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	return &tool{TB: t, path: path, root: filepath.Join(t.TempDir(), "store"), dir: t.TempDir()}
}

// result is how a program ended. Code is -1 if a signal ended it.
type result struct {
	code           int
	stdout, stderr string
	cpu            *syscall.Rusage
}

// command returns lamina with these arguments; what it starts does not outlive
// the test.
func (l *tool) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.Context(), l.path, args...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "LAMINA_ROOT="+l.root, "BUILDKIT_PROGRESS=plain")
	return cmd
}

// run executes lamina to its end.
func (l *tool) run(args ...string) result {
	l.Helper()
	return finish(l, l.command(args...))
}

// must is run, and returns what it printed. It has to succeed.
func (l *tool) must(args ...string) string {
	l.Helper()
	r := l.run(args...)
	if r.code != 0 {
		l.Fatalf("lamina %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// finish executes a program.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	rusage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), rusage}
}

// file writes a file into the tool's directory.
func (l *tool) file(name, content string) {
	l.Helper()
	name = filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		l.Fatal(err)
	}
}

// busybox puts a static busybox into the tool's directory, to build images from.
func (l *tool) busybox() {
	l.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		l.Skip("busybox is not installed")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	l.file("bin/busybox", string(content))
	if err := os.Chmod(filepath.Join(l.dir, "bin/busybox"), 0o755); err != nil {
		l.Fatal(err)
	}
}

// busyboxBase is the beginning of a Dockerfile in whose later stages there are
// busybox's commands.
const busyboxBase = `FROM scratch AS base
COPY bin/busybox /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
`

// needRun skips the test where RUN cannot work.
func needRun(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("RUN needs root")
	}
	if err := runner.Supported(); err != nil {
		t.Skip(err)
	}
}

// clean fails the test if anything of what lamina did in this store is left but
// the store itself. The program must not be running. A build comes first, which
// removes what killed ones left behind.
func (l *tool) clean() {
	l.Helper()
	l.file("clean/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	l.must("build", "--quiet", "-o", "type=cacheonly", "clean")
	for _, dir := range []string{"tmp", "containers"} {
		left, err := os.ReadDir(filepath.Join(l.root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.Error(err)
		}
		for _, e := range left {
			l.Errorf("%s/%s is left in the store", dir, e.Name())
		}
	}
	l.intact()
	for _, path := range processesOf(l, l.root) {
		l.Errorf("process %s is left", path)
	}
	for _, line := range mountsBelow(l, l.root) {
		l.Errorf("mount is left: %s", line)
	}
	for _, dir := range controlGroups(l, l.root) {
		l.Errorf("control group is left: %s", dir)
	}
}

// intact fails the test if a blob is not what its name says.
func (l *tool) intact() {
	l.Helper()
	dir := filepath.Join(l.root, "blobs", "sha256")
	blobs, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.Error(err)
	}
	for _, b := range blobs {
		data, err := os.ReadFile(filepath.Join(dir, b.Name()))
		if err != nil {
			l.Error(err)
		} else if got := digest.FromBytes(data).Encoded(); got != b.Name() {
			l.Errorf("blob %s has the content of %s", b.Name(), got)
		}
	}
}

// processesOf lists the living processes that were started for the store: lamina
// itself and what it runs, which is in control groups of that store.
func processesOf(t testing.TB, root string) []string {
	var found []string
	for _, proc := range numbered(t) {
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		info, _ := os.ReadFile(filepath.Join(proc, "mountinfo"))
		if bytes.Contains(environ, []byte("LAMINA_ROOT="+root+"\x00")) || bytes.Contains(info, []byte(root+"/")) && !sameMounts(proc) {
			command, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
			found = append(found, proc+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// sameMounts tells whether a process is in the mount namespace of this one.
func sameMounts(proc string) bool {
	theirs, _ := os.Readlink(filepath.Join(proc, "ns/mnt"))
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	return theirs == ours
}

func numbered(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mountsBelow lists the mounts below dir that this process sees.
func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, dir+"/") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// controlGroups lists the control groups of what was run for the store, whose
// names end with a digest of where its containers are.
func controlGroups(t testing.TB, root string) []string {
	sum := sha256.Sum256([]byte(filepath.Join(root, "containers")))
	suffix := "-" + hex.EncodeToString(sum[:4])
	var found []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(path, suffix) {
			found = append(found, path)
		}
		return nil // others make and remove theirs meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// environment is the variables of a command that is called in this process.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}
