package runner

import (
	"strings"
	"testing"
)

func TestFilesAreInMemory(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	write(t, root+"/etc/secret", "", 0o644)
	s := shell(root, `
		cat /etc/secret
		stat -c '%a %u:%g' /etc/secret
		echo x >/etc/secret || true
		/dev/pipes/script`)
	s.Files = []File{
		{Target: "/etc/secret", Data: []byte("s3cret\n"), Mode: 0o440, UID: 7, GID: 8},
		{Target: "/dev/pipes/script", Data: []byte("#!/bin/sh\necho from a script\n"), Mode: 0o755},
	}
	out, err := run(t, r, s)
	if err != nil {
		t.Fatal(err, out)
	}
	for _, want := range []string{"s3cret\n440 7:8\n", "Read-only file system", "from a script\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

func TestParseUlimit(t *testing.T) {
	for s, want := range map[string]Ulimit{
		"nofile=1024":      {"nofile", 1024, 1024},
		"nofile=1024:2048": {"nofile", 1024, 2048},
		"core=-1":          {"core", -1, -1},
	} {
		if got, err := ParseUlimit(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "nofile", "nofile=", "nofile=a", "nofile=1:b", "nofile=2:1", "nofile=1:2:3", "bogus=1", "nofile=-2"} {
		if got, err := ParseUlimit(s); err == nil {
			t.Errorf("%q was accepted as %v", s, got)
		}
	}
}
