package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lamina/cmd/lamina/internal/cli"
)

// TestEmulation builds an image for two platforms, one of which only an emulator
// can run here, out of Debian's busybox packages for both.
func TestEmulation(t *testing.T) {
	needAcceptance(t)
	needEmulator(t)
	l := newTool(t)
	l.busybox()
	l.file("Dockerfile", `FROM scratch AS base
ARG TARGETARCH
COPY $TARGETARCH /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN uname -m > /machine

FROM --platform=$BUILDPLATFORM scratch AS tools
ARG BUILDARCH
COPY $BUILDARCH /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN cat /proc/sys/kernel/random/uuid > /shared

FROM base
COPY --from=tools /shared /tools/
CMD ["cat", "/machine", "/tools/shared"]
`)
	if err := os.Rename(filepath.Join(l.dir, "bin"), filepath.Join(l.dir, "amd64")); err != nil {
		t.Fatal(err)
	}
	arm64Busybox(t, filepath.Join(l.dir, "arm64"))

	// What both need, on this machine's own platform, is executed once.
	r := l.run("build", "--platform", "linux/amd64,linux/arm64", "-t", "app", ".")
	if r.code != 0 {
		t.Fatal(r.stderr)
	}
	shared := map[string]bool{}
	for platform, machine := range map[string]string{"linux/amd64": "x86_64", "linux/arm64": "aarch64"} {
		out := strings.Fields(l.must("run", "--rm", "--platform", platform, "app"))
		if len(out) != 2 || out[0] != machine {
			t.Fatalf("%s says %q, want %s and an identifier", platform, out, machine)
		}
		shared[out[1]] = true
	}
	if len(shared) != 1 {
		t.Errorf("the stage that both platforms share was executed %d times", len(shared))
	}
}

// TestForeignProgram runs a program for a machine that nobody emulates.
func TestForeignProgram(t *testing.T) {
	needRun(t)
	l := newTool(t)
	var head bytes.Buffer // of a program for the 31 bits of IBM's S/390
	fmt.Fprintf(&head, "%s%c%c%c", elf.ELFMAG, elf.ELFCLASS32, elf.ELFDATA2MSB, elf.EV_CURRENT)
	head.Write(make([]byte, 64-head.Len()))
	head.Bytes()[17], head.Bytes()[19] = byte(elf.ET_EXEC), byte(elf.EM_S390)
	l.file("program", head.String())
	l.file("Dockerfile", "FROM scratch\nCOPY --chmod=755 program /bin/sh\nRUN anything\n")

	r := l.run("build", ".")
	const want = "/bin/sh is a program for s390 and this machine is "
	if r.code != cli.ExitFailure || !strings.Contains(r.stderr, "Dockerfile:3: ") || !strings.Contains(r.stderr, want) ||
		!strings.Contains(r.stderr, "no emulator for s390") || !strings.Contains(r.stderr, "hint: install one") {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	l.file("Dockerfile", "FROM scratch\nCOPY --chmod=755 program /bin/sh\n")
	l.must("build", "-t", "foreign", ".")
	const cannotExecute = 126
	if r := l.run("run", "--rm", "foreign", "sh"); r.code != cannotExecute || !strings.Contains(r.stderr, want) {
		t.Errorf("exit code %d, want %d, stderr:\n%s", r.code, cannotExecute, r.stderr)
	}
}

// needEmulator registers the emulator of arm64 for the time of the test, unless
// it is registered, or skips the test.
func needEmulator(t *testing.T) {
	t.Helper()
	const dir = "/proc/sys/fs/binfmt_misc"
	if runtime.GOARCH != "amd64" {
		t.Skip("the emulator of arm64 is for amd64")
	}
	entry, err := os.ReadFile("/usr/lib/binfmt.d/qemu-aarch64.conf")
	if err != nil {
		t.Skip("qemu-user-static is not installed")
	}
	if _, err := os.Stat(dir + "/register"); errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mount("binfmt_misc", dir, "binfmt_misc", 0, ""); err != nil {
			t.Skipf("this machine lets nobody register emulators: mount %s: %v", dir, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := os.Stat(dir + "/qemu-aarch64"); err == nil {
		return
	}
	name := fmt.Sprintf("lamina-test-%d", os.Getpid())
	entry = bytes.Replace(entry, []byte("qemu-aarch64"), []byte(name), 1)
	if err := os.WriteFile(dir+"/register", entry, 0); err != nil {
		t.Skipf("this machine lets nobody register emulators: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("-1"), 0); err != nil {
			t.Error(err)
		}
	})
}

// arm64Busybox puts the busybox of Debian's package for arm64 into the directory
// dir. The package is fetched once and kept, as the applications' bases are.
func arm64Busybox(t *testing.T, dir string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(cache, "lamina-acceptance", "debian", "busybox-arm64.tar")
	if _, err := os.Stat(archive); err != nil {
		if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
			t.Fatal(err)
		}
		part := strings.TrimSuffix(archive, ".tar") + ".part.tar"
		// Extracting executes nothing of the other architecture.
		cmd := exec.Command("mmdebstrap", "--arch=arm64", "--variant=extract", "--mode=root", "--quiet",
			"--include=busybox-static", "bookworm", part)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Rename(part, archive); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", dir, "--strip-components=2", "./bin/busybox").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
