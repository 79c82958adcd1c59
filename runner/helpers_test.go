package runner

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"lamina/snapshot"
)

func TestMain(m *testing.M) {
	Init()
	if state := os.Getenv("LAMINA_TEST_VICTIM"); state != "" {
		victim(state, os.Getenv("LAMINA_TEST_ROOT"), os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// busyboxRoot makes a root filesystem with busybox in it.
func busyboxRoot(t testing.TB) string {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	static, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox:", err)
	}
	root := t.TempDir()
	for _, dir := range []string{"bin", "etc", "tmp", "home/user", "proc", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(static)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "bin/busybox"), string(content), 0o755)
	applets, err := exec.Command(static, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n", 0o644)
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\nuser:x:1001:\nwheel:x:10:user\nstaff:x:50:root,user\n", 0o644)
	for _, f := range networkFiles(Spec{}) {
		write(t, filepath.Join(root, f), "", 0o644)
	}
	return root
}

func write(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // setuid too, whatever the umask
		t.Fatal(err)
	}
}

func bindRoot(root string) []snapshot.Mount {
	return []snapshot.Mount{{Type: "bind", Source: root, Target: "/"}}
}

func newRunner(t testing.TB) (Runner, string) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "containers")
	r, err := New(Options{State: state})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(state)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range left {
			t.Errorf("left in the state directory: %s", e.Name())
		}
	})
	return r, state
}

var lastID atomic.Int64

func shell(root, script string) Spec {
	return Spec{
		ID:      "test-" + itoa(int64(os.Getpid())) + "-" + itoa(lastID.Add(1)),
		Root:    bindRoot(root),
		Args:    []string{"/bin/sh", "-c", script},
		Network: "none",
	}
}

// run runs s and returns what it wrote to stdout and stderr.
func run(t testing.TB, r Runner, s Spec) (string, error) {
	t.Helper()
	return runIO(t, r, s, IO{})
}

func runIO(t testing.TB, r Runner, s Spec, io IO) (string, error) {
	t.Helper()
	var out bytes.Buffer
	io.Stdout, io.Stderr = &out, &out
	p, err := r.Start(context.Background(), s, io)
	if err != nil {
		return "", err
	}
	err = p.Wait()
	return out.String(), err
}

// output runs script in root and returns what it wrote; it must succeed.
func output(t testing.TB, root, script string, change ...func(*Spec)) string {
	t.Helper()
	r, _ := newRunner(t)
	s := shell(root, script)
	for _, c := range change {
		c(&s)
	}
	out, err := run(t, r, s)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(out)
}
