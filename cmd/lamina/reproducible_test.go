package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReproducible builds the same files twice: later, in another directory, with
// other times, another umask and another number of steps at once, on another store
// and, as root, as another user. The digests are the same.
func TestReproducible(t *testing.T) {
	for _, tc := range []struct {
		name, dockerfile string
		run              bool // it has RUN steps, which need root
	}{
		{"files", "FROM scratch\nWORKDIR /made/deep\nCOPY a /\nCOPY --chown=5:6 a b /d/\nCOPY --chmod=600 --link b /l/\nCOPY <<x /h\ntext\nx\nADD dir /dir\n", false},
		{"steps", busyboxBase + "FROM base\nRUN mkdir -p /w/x && date > /dev/null && echo 1 > /w/1 && ln /w/1 /w/2 && ln -s 1 /w/3\n" +
			"WORKDIR /w/y\nCOPY a .\nRUN rm a && touch -d @5 /w/old && chown 7:8 /w/1\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.run {
				needRun(t)
			}
			one := reproduction{tool: newTool(t), t: t}
			one.write(tc.dockerfile, tc.run, time.Now())
			want := one.build("--jobs=1")
			two := reproduction{tool: newTool(t), t: t}
			if os.Geteuid() == 0 && !tc.run {
				two.become(1000)
			}
			two.write(tc.dockerfile, tc.run, time.Now().Add(-time.Hour))
			if got := two.build("--jobs=4"); got != want {
				t.Errorf("the second build gave %s, the first %s", got, want)
			}
		})
	}
}

// reproduction is one of two builds of the same.
type reproduction struct {
	*tool
	t    *testing.T
	user uint32
}

// become makes all that follows another user's business, who must be able to reach it.
func (r *reproduction) become(user uint32) {
	r.Helper()
	dir, err := os.MkdirTemp("/tmp", "lamina-user-")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { os.RemoveAll(dir) })
	program := copyProgram(r.t, r.path, dir)
	for _, path := range []string{dir, program} {
		if err := os.Chown(path, int(user), int(user)); err != nil {
			r.Fatal(err)
		}
	}
	r.path, r.root, r.dir, r.user = program, filepath.Join(dir, "store"), filepath.Join(dir, "elsewhere"), user
}

// write makes the context, whose files are as old as when.
func (r *reproduction) write(dockerfile string, busybox bool, when time.Time) {
	r.Helper()
	r.file("Dockerfile", dockerfile)
	for _, name := range []string{"a", "b", "dir/c", "dir/sub/d"} {
		r.file(name, name+"\n")
	}
	if busybox {
		r.busybox()
	}
	err := filepath.WalkDir(r.dir, func(name string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Chtimes(name, when, when)
		}
		if err == nil && r.user != 0 {
			err = os.Chown(name, int(r.user), int(r.user))
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
}

// build returns the digest of the image.
func (r *reproduction) build(more ...string) string {
	r.Helper()
	digest := filepath.Join(r.dir, "digest")
	args := []string{"build", "--source-date-epoch=1000000000", "--rewrite-timestamp", "--digest-file", digest, "-t", "app"}
	cmd := r.command(append(append(args, more...), ".")...)
	if r.user != 0 {
		shell := exec.CommandContext(r.Context(), "sh", append([]string{"-c", `umask 077; exec "$0" "$@"`}, cmd.Args...)...)
		shell.Dir, shell.Env = cmd.Dir, cmd.Env
		shell.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: r.user, Gid: r.user}}
		cmd = shell
	}
	if res := finish(r, cmd); res.code != 0 {
		r.Fatalf("exit code %d\n%s", res.code, res.stderr)
	}
	data, err := os.ReadFile(digest)
	if err != nil {
		r.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
