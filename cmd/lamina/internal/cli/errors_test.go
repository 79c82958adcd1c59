package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lamina/cache/registry"
)

func TestReportAndExitCode(t *testing.T) {
	parent := &cobra.Command{Use: "lamina [OPTIONS] COMMAND"}
	tag := &cobra.Command{Use: "tag SOURCE TARGET"}
	run := &cobra.Command{Use: "run IMAGE", Annotations: map[string]string{FailureCode: "125"}}
	parent.AddCommand(tag, run)
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()

	for _, tc := range []struct {
		name string
		ctx  context.Context
		cmd  *cobra.Command
		err  error
		code int
		text string
	}{
		{"success", nil, tag, nil, 0, ""},
		{"failure", nil, tag, errors.New("no"), 1, "lamina: no\n"},
		{"hint", nil, tag, fmt.Errorf("tag: %w", WithHint(errors.New("no"), "try %d", 2)), 1, "lamina: tag: no\nhint: try 2\n"},
		{
			"registry", nil, tag, &registry.Error{Subject: "app", Text: "who are you?", Hint: "log in"}, 1,
			"lamina: app: who are you?\nhint: log in\n",
		},
		{
			"full disk", nil, tag, &fs.PathError{Op: "write", Path: "blob", Err: unix.ENOSPC}, 1,
			"lamina: write blob: no space left on device\nhint: there is no space left on the disk: 'lamina prune' frees what nothing needs\n",
		},
		{"several", nil, tag, errors.Join(errors.New("one"), errors.New("two")), 1, "lamina: one\nlamina: two\n"},
		{
			"usage", nil, tag, &UsageError{tag, errors.New("wrong")}, 2,
			"lamina: wrong\n\nUsage:  lamina tag SOURCE TARGET\n\nRun 'lamina tag --help' for more information\n",
		},
		{
			"usage of all", nil, parent, &UsageError{parent, errors.New("wrong")}, 2,
			"lamina: wrong\n\nRun 'lamina --help' for more information\n",
		},
		{"failure of run", nil, run, errors.New("no"), 125, "lamina: no\n"},
		{
			"usage of run", nil, run, &UsageError{run, errors.New("wrong")}, 125,
			"lamina: wrong\n\nUsage:  lamina run IMAGE\n\nRun 'lamina run --help' for more information\n",
		},
		{"code of a container", nil, run, &ExitError{Code: 7}, 7, ""},
		{"code with a reason", nil, run, &ExitError{Code: 127, Err: errors.New("not found")}, 127, "lamina: not found\n"},
		{
			"excerpt", nil, tag, &ExcerptError{errors.New("Dockerfile:2: RUN make: exit code 2"), " > 2 | RUN make\n"}, 1,
			"Dockerfile:2: RUN make: exit code 2\n > 2 | RUN make\n",
		},
		{"interrupted", interrupted, tag, fmt.Errorf("pull: %w", context.Canceled), 130, "lamina: interrupted\n"},
		{"interrupted with another error", interrupted, tag, errors.New("broken pipe"), 130, "lamina: broken pipe\n"},
		{"interrupted in a container", interrupted, run, &ExitError{Code: 7}, 7, ""},
	} {
		ctx := tc.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		if got := ExitCode(ctx, tc.cmd, tc.err); got != tc.code {
			t.Errorf("%s: exit code %d, want %d", tc.name, got, tc.code)
		}
		var out bytes.Buffer
		if tc.err != nil {
			Report(ctx, &out, tc.err)
		}
		if diff := cmp.Diff(tc.text, out.String()); diff != "" {
			t.Errorf("%s: wrong text (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"platform", "platform", 0},
		{"platfrom", "platform", 1},
		{"paltfrom", "platform", 2},
		{"quite", "quiet", 1},
		{"kitten", "sitting", 3},
	} {
		if got := editDistance(tc.a, tc.b); got != tc.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if got := editDistance(tc.b, tc.a); got != tc.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tc.b, tc.a, got, tc.want)
		}
	}
}
