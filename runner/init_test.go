package runner

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestInit(t *testing.T) {
	if err := checkInit("/proc/self/exe"); err != nil {
		t.Skip(err) // go test -ldflags '-linkmode external -extldflags -static'
	}
	root := busyboxRoot(t)
	for _, tc := range []struct {
		args []string
		out  string
		code int
	}{
		{[]string{"sh", "-c", "test $$ != 1 && echo child; exit 3"}, "child\n", 3},
		{[]string{"sh", "-c", "kill -9 $$"}, "", 137},
		// An orphan is adopted and collected: none is left as a zombie.
		{[]string{"sh", "-c", "(sh -c 'exit 0' &); mkfifo /tmp/i; (echo >/tmp/i &); read x </tmp/i; rm /tmp/i; until ! grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo clean"}, "clean\n", 0},
		{[]string{"nosuch"}, "nosuch: executable file not found in $PATH\n", 127},
		{[]string{"/etc"}, "/etc: is a directory\n", 126},
	} {
		r, _ := newRunner(t)
		s := shell(root, "")
		s.Args, s.Init = tc.args, true
		out, err := run(t, r, s)
		code := 0
		if exit := (*ExitError)(nil); errors.As(err, &exit) {
			code = exit.Code
		} else if err != nil {
			t.Errorf("%q: %v", tc.args, err)
		}
		if out != tc.out || code != tc.code {
			t.Errorf("%q: output %q, exit code %d, want %q, %d", tc.args, out, code, tc.out, tc.code)
		}
	}
}

func TestInitNeedsStaticProgram(t *testing.T) {
	for _, dynamic := range []string{"/bin/sh", "/usr/bin/env"} {
		if _, err := os.Stat(dynamic); err != nil {
			continue
		}
		if err := checkInit(dynamic); err == nil || !strings.Contains(err.Error(), "linked dynamically") {
			t.Errorf("%s: %v", dynamic, err)
		}
		return
	}
	t.Skip("no program that is certainly linked dynamically")
}
