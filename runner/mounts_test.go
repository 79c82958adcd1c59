package runner

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
)

func bind(source, target string, options ...string) snapshot.Mount {
	return snapshot.Mount{Type: "bind", Source: source, Target: target, Options: options}
}

func TestMounts(t *testing.T) {
	root, host, other := busyboxRoot(t), t.TempDir(), t.TempDir()
	write(t, filepath.Join(host, "file"), "host", 0o644)
	write(t, filepath.Join(other, "secret"), "value", 0o600)
	if err := os.MkdirAll(filepath.Join(other, "dir/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(other, "dir/sub/file"), "other", 0o644)
	if err := os.Symlink("/dir", filepath.Join(other, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, script, want string
		mounts             []snapshot.Mount
	}{
		{"bind", "cat /mnt/file; echo x >/mnt/made && rm /mnt/made && echo writable", "hostwritable",
			[]snapshot.Mount{bind(host, "/mnt")}},
		{"read-only bind", "echo x 2>&1 >/mnt/made; cat /mnt/file", "/bin/sh: can't create /mnt/made: Read-only file system\nhost",
			[]snapshot.Mount{bind(host, "/mnt", "ro")}},
		{"file", "cat /run/secrets/x; ls -l /run/secrets/x | cut -c 1-10", "value-rw-------",
			[]snapshot.Mount{bind(filepath.Join(other, "secret"), "/run/secrets/x")}},
		{"tmpfs", "ls -ld /mnt | cut -c 1-10; df -k /mnt | tail -n 1 | awk '{print $2}'", "drwxrwxrwt\n1024",
			[]snapshot.Mount{{Type: "tmpfs", Target: "/mnt", Options: []string{"size=1048576", "mode=1777"}}}},
		{"in order", "cat /mnt/deep/file; ls /mnt", "hostdeep",
			[]snapshot.Mount{{Type: "tmpfs", Target: "/mnt"}, bind(host, "/mnt/deep")}},
		{"beneath /dev", "cat /dev/pipes/x", "value",
			[]snapshot.Mount{bind(filepath.Join(other, "secret"), "/dev/pipes/x")}},
		{"instead of a default one", "cat /dev/shm/file /etc/hosts", "hostvalue",
			[]snapshot.Mount{bind(host, "/dev/shm"), bind(filepath.Join(other, "secret"), "/etc/hosts")}},
		{"of another root", "cat /mnt/file /one; ls /mnt", "othervaluefile",
			[]snapshot.Mount{bind("stage:/dir/sub", "/mnt", "ro"), bind("stage:secret", "/one", "file")}},
		{"through a link of another root", "cat /mnt/file", "other",
			[]snapshot.Mount{bind("stage:/link/sub", "/mnt")}},
		{"not out of another root", "cat /mnt/file", "other",
			[]snapshot.Mount{bind("stage:/../../dir/../../dir/sub", "/mnt")}},
		{"overlay", "cat /mnt/file /mnt/secret", "hostvalue",
			[]snapshot.Mount{{Type: "overlay", Target: "/mnt", Options: []string{"lowerdir+=" + host, "lowerdir+=" + other}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := output(t, root, tc.script, func(s *Spec) {
				s.Mounts = tc.mounts
				s.Roots = map[string][]snapshot.Mount{"stage": bindRoot(other)}
			})
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A part of the root that is mounted on itself stays writable in a read-only one.
func TestMountOfOwnRoot(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, "echo x >/home/user/file && cat /home/user/file; echo x 2>&1 >/home/file; true", func(s *Spec) {
		s.ReadOnly = true
		s.Mounts = []snapshot.Mount{bind(":/home/user", "/home/user")}
	})
	if want := "x\n/bin/sh: can't create /home/file: Read-only file system"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMountErrors(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	for _, tc := range []struct {
		mount snapshot.Mount
		want  string
	}{
		{bind("other:/x", "/mnt"), `start the container: mount on /mnt: source "other:/x" is neither absolute nor in a known root`},
		{bind("stage:/x", "/mnt"), "start the container: mount on /mnt: open /x: no such file or directory"},
		{snapshot.Mount{Type: "nfs", Target: "/mnt"}, `start the container: mount on /mnt: unknown type "nfs"`},
		{snapshot.Mount{Type: "tmpfs", Target: "/mnt", Options: []string{"huge=always"}}, `start the container: mount on /mnt: unknown option "huge=always" of tmpfs`},
	} {
		s := shell(root, "true")
		s.Mounts = []snapshot.Mount{tc.mount}
		s.Roots = map[string][]snapshot.Mount{"stage": bindRoot(t.TempDir())}
		if _, err := run(t, r, s); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func TestTargets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "", 0o644)
	got := Targets(Spec{Mounts: []snapshot.Mount{
		bind(t.TempDir(), "/a"),
		bind(file, "/b"),
		bind("stage:x", "/c"),
		bind("stage:x", "/d", "file"),
		{Type: "tmpfs", Target: "/e"},
		bind(file, "/dev/pipes/x"),
	}})
	want := []snapshot.Target{
		{Path: "/proc", Dir: true}, {Path: "/dev", Dir: true}, {Path: "/sys", Dir: true},
		{Path: "/etc/resolv.conf"}, {Path: "/etc/hostname"}, {Path: "/etc/hosts"},
		{Path: "/a", Dir: true}, {Path: "/b"}, {Path: "/c", Dir: true}, {Path: "/d"}, {Path: "/e", Dir: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
