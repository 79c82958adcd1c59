package runner

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCapabilitiesOfAProcess(t *testing.T) {
	root := busyboxRoot(t)
	const script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"
	// The 14 of docker's default set.
	const docker = "00000000a80425fb"
	for _, tc := range []struct {
		name   string
		change func(*Spec)
		want   []string // inheritable, permitted, effective, bounding, ambient, no new privileges, seccomp
	}{
		{"root", func(*Spec) {}, []string{"0000000000000000", docker, docker, docker, "0000000000000000", "0", "2"}},
		{"user", func(s *Spec) { s.User = "user" }, []string{"0000000000000000", "0000000000000000", "0000000000000000", docker, "0000000000000000", "0", "2"}},
		{"no new privileges", func(s *Spec) { s.NoNewPrivileges = true }, []string{"0000000000000000", docker, docker, docker, "0000000000000000", "1", "2"}},
		{"drop all", func(s *Spec) { s.CapDrop, s.CapAdd = []string{"all"}, []string{"chown"} }, []string{"0000000000000000", "0000000000000001", "0000000000000001", "0000000000000001", "0000000000000000", "0", "2"}},
	} {
		out := output(t, root, script, tc.change)
		var got []string
		for _, line := range strings.Split(out, "\n") {
			_, v, _ := strings.Cut(line, ":")
			got = append(got, strings.TrimSpace(v))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestCapabilities(t *testing.T) {
	for _, tc := range []struct {
		name      string
		add, drop []string
		want      string
		err       string
	}{
		{name: "drop one", drop: []string{"MKNOD"}, want: "-CAP_MKNOD"},
		{name: "drop and add", drop: []string{"cap_mknod"}, add: []string{"SYS_ADMIN"}, want: "-CAP_MKNOD +CAP_SYS_ADMIN"},
		{name: "add what is there", add: []string{"CHOWN"}},
		{name: "unknown", add: []string{"FLY"}, err: `unknown capability "CAP_FLY"`},
	} {
		caps, err := capabilities(Spec{CapAdd: tc.add, CapDrop: tc.drop})
		if err != nil || tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("%s: error %v, want %q", tc.name, err, tc.err)
			}
			continue
		}
		if len(caps.Inheritable)+len(caps.Ambient) != 0 {
			t.Errorf("%s: inheritable %q, ambient %q", tc.name, caps.Inheritable, caps.Ambient)
		}
		for _, set := range [][]string{caps.Bounding, caps.Permitted, caps.Effective} {
			if got := difference(defaultCapabilities(), set); got != tc.want {
				t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
			}
		}
	}
}

// difference says what is in one list only: "-old +new".
func difference(a, b []string) string {
	var out []string
	count := map[string]int{}
	for _, s := range b {
		count[s]++
	}
	for _, s := range a {
		if count[s] == 0 {
			out = append(out, "-"+s)
		}
		count[s]--
	}
	for _, s := range b {
		if count[s] > 0 {
			out = append(out, "+"+s)
			count[s] = 0
		}
	}
	return strings.Join(out, " ")
}

func TestDenied(t *testing.T) {
	root := busyboxRoot(t)
	for _, tc := range []struct{ script, want string }{
		{"mount -t tmpfs none /tmp", "permission denied (are you root?)"},
		// The kernel itself would let anybody make a user namespace.
		{"unshare -U true", "Operation not permitted"},
		{"unshare -m true", "Operation not permitted"},
		{"umount /sys", "Operation not permitted"},
		{"mknod /tmp/dev c 10 229 && cat /tmp/dev", "Operation not permitted"},
		{"mknod /tmp/disk b 259 0 && cat /tmp/disk", "Operation not permitted"},
		{"hostname other", "Operation not permitted"},
		{"echo 1 >/proc/sys/kernel/panic", "Read-only file system"},
		{"echo h >/proc/sysrq-trigger", "an't create /proc/sysrq-trigger"},
		{"echo 1 >/sys/fs/cgroup/pids/cgroup.procs", "an't create /sys/fs/cgroup/pids/cgroup.procs"},
		{"chroot /proc/1/root/../../.. cat /proc/1/comm | grep -v sh && exit 0; echo inside; exit 1", "inside"},
	} {
		r, _ := newRunner(t)
		out, err := run(t, r, shell(root, tc.script+" 2>&1"))
		if err == nil || !strings.Contains(out, tc.want) {
			t.Errorf("%s: %v, output %q, want %q", tc.script, err, out, tc.want)
		}
		for _, f := range []string{"dev", "disk"} {
			os.Remove(filepath.Join(root, "tmp", f))
		}
	}
}

func TestMaskedPaths(t *testing.T) {
	root := busyboxRoot(t)
	var script strings.Builder
	for _, p := range maskedPaths() {
		script.WriteString("[ -d " + p + " ] && ls " + p + "; [ -f " + p + " -o -c " + p + " ] && cat " + p + "; ")
	}
	if got := output(t, root, script.String()+":"); got != "" {
		t.Errorf("masked paths show %q", got)
	}
}

func TestInsecure(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, `unshare -U true && unshare -m sh -c 'mount -t tmpfs none /tmp' && grep Seccomp: /proc/self/status &&
		[ -w /sys/kernel ] && mknod /dev/x c 1 11 && [ -e /dev/x ] && head -c 0 /dev/x && echo open`,
		func(s *Spec) { s.Insecure = true })
	if want := "Seccomp:\t0\nopen"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Ambient capabilities reach what an ordinary user executes.
func TestAmbient(t *testing.T) {
	root := busyboxRoot(t)
	for _, ambient := range []bool{false, true} {
		got := output(t, root, "grep -E 'CapEff|CapAmb' /proc/self/status | grep -c 0000000000000000 || true", func(s *Spec) {
			s.Insecure, s.Ambient, s.User = true, ambient, "5"
		})
		if want := map[bool]string{false: "2", true: "0"}[ambient]; got != want {
			t.Errorf("Ambient=%v: %s of two sets are empty, want %s", ambient, got, want)
		}
	}
}

func TestDevices(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, "stat -c '%n %F %t,%T %a %u:%g' /dev/own /dev/sub/nul; head -c 3 /dev/own | wc -c; echo x > /dev/sub/nul && echo written; cat /dev/sub/nul || echo refused", func(s *Spec) {
		zero, err := HostDevice("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		zero.Path, zero.UID, zero.Mode = "/dev/own", 5, 0o640
		s.Devices = []Device{zero, {Path: "/dev/sub/nul", Major: 1, Minor: 3}}
	})
	want := "/dev/own character special file 1,5 640 5:0\n/dev/sub/nul character special file 1,3 666 0:0\n3\nwritten"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := HostDevice("/etc/passwd"); err == nil {
		t.Error("a file is taken for a device")
	}
}

// A working directory that names a leaked descriptor once led out of containers
// (CVE-2024-21626).
func TestWorkingDirectoryIsInside(t *testing.T) {
	root := busyboxRoot(t)
	write(t, filepath.Join(root, "marker"), "inside", 0o644)
	r, _ := newRunner(t)
	for fd := 3; fd < 16; fd++ {
		s := shell(root, "cat ../marker ../../marker marker ./../../../../../../marker 2>/dev/null")
		s.Dir = "/proc/self/fd/" + strconv.Itoa(fd)
		out, err := run(t, r, s)
		if err == nil && !strings.Contains(out, "inside") {
			t.Errorf("%s: started outside: %q", s.Dir, out)
		}
	}
}

func TestMountTargetsStayInside(t *testing.T) {
	root, outside := busyboxRoot(t), t.TempDir()
	write(t, filepath.Join(outside, "file"), "host", 0o644)
	for link, to := range map[string]string{"abs": outside, "rel": "../../../../../../../.." + outside} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	source := t.TempDir()
	write(t, filepath.Join(source, "file"), "mounted", 0o644)
	for _, target := range []string{"/abs", "/rel", "/abs/sub", "/rel/sub"} {
		got := output(t, root, "cat "+target+"/file; echo new >"+target+"/new", func(s *Spec) {
			s.Mounts = append(s.Mounts, bind(source, target))
		})
		if got != "mounted" {
			t.Errorf("%s: %q", target, got)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 1 {
		t.Errorf("outside the root: %v, %v", left, err)
	}
}
