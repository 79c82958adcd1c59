package runner

import (
	"errors"
	"path/filepath"
	"testing"
)

// What is found but cannot be executed is told as such, and not as the exit code of
// a command that never was.
func TestRefusal(t *testing.T) {
	root := busyboxRoot(t)
	for name, content := range map[string]string{
		"text": "echo hi\n", "elf": "\x7fELFgarbage", "script": "#!/nope\n", "empty": "",
	} {
		write(t, filepath.Join(root, name), content, 0o755)
	}
	write(t, filepath.Join(root, "plain"), "#!/bin/sh\n", 0o644)
	r, _ := newRunner(t)
	for _, tc := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"/text"}, 126, "/text: exec format error: neither a program for this machine nor a script that names its interpreter"},
		{[]string{"/elf"}, 126, "/elf: exec format error: neither a program for this machine nor a script that names its interpreter"},
		{[]string{"/empty"}, 126, "/empty: exec format error: neither a program for this machine nor a script that names its interpreter"},
		{[]string{"/script"}, 127, "/script: the interpreter that it names is missing"},
		{[]string{"/plain"}, 126, "/plain: permission denied"},
		{[]string{"/bin"}, 126, "/bin: is a directory"},
		{[]string{"nothing"}, 127, "nothing: executable file not found"},
		{[]string{"/nothing"}, 127, "/nothing: no such file or directory"},
	} {
		s := shell(root, "")
		s.Args = tc.args
		out, err := run(t, r, s)
		var refused *CommandError
		if !errors.As(err, &refused) || refused.Code != tc.code || err.Error() != tc.text || out != "" {
			t.Errorf("%q: %v with output %q, want code %d, %s", tc.args, err, out, tc.code, tc.text)
		}
	}
	// A command that prints and ends like that was executed all the same.
	if out, err := run(t, r, shell(root, "echo exec /x: no such file or directory >&2; ls /proc/self/fd | wc -l; exit 255")); err == nil || err.Error() != "exit code 255" {
		t.Errorf("%v, with output %q", err, out)
	}
}

func TestExitError(t *testing.T) {
	for _, tc := range []struct {
		e    ExitError
		want string
	}{
		{ExitError{Code: 3}, "exit code 3"},
		{ExitError{Code: 128}, "exit code 128"},
		{ExitError{Code: 255}, "exit code 255"},
		{ExitError{Code: 137, Signal: 9}, "exit code 137, killed by SIGKILL (out of memory?)"},
		{ExitError{Code: 143}, "exit code 143, ended by SIGTERM"},
		{ExitError{Code: 139, Signal: 11}, "exit code 139, ended by SIGSEGV"},
		{ExitError{Code: 137, OutOfMemory: true, limited: true}, "killed for exceeding its memory limit (exit code 137)"},
		{ExitError{Code: 1, OutOfMemory: true}, "killed because this machine has no more memory (exit code 1)"},
	} {
		if got := tc.e.Error(); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.e, got, tc.want)
		}
	}
}
