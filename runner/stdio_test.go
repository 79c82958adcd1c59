package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestStreams(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	var stdout, stderr bytes.Buffer
	p, err := r.Start(context.Background(), shell(root, "cat; echo done >&2"), IO{Stdin: strings.NewReader(big), Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if stdout.String() != big {
		t.Errorf("stdout has %d bytes, want %d", stdout.Len(), len(big))
	}
	if stderr.String() != "done\n" {
		t.Errorf("stderr is %q", &stderr)
	}
}

func TestOneWriterKeepsOrder(t *testing.T) {
	root := busyboxRoot(t)
	var script, want strings.Builder
	for i := range 50 {
		script.WriteString("echo o" + itoa(int64(i)) + "; echo e" + itoa(int64(i)) + " >&2;")
		want.WriteString("o" + itoa(int64(i)) + "\ne" + itoa(int64(i)) + "\n")
	}
	if got := output(t, root, script.String()); got != strings.TrimSpace(want.String()) {
		t.Errorf("got %q", got)
	}
}

// The shell ends while its child has stdout open and goes on: that ends too, and
// what it wrote is delivered.
func TestOutputOfBackgroundProcesses(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, "mkfifo /tmp/f; { echo child; echo >/tmp/f; exec sleep 1000; } & read x </tmp/f; rm /tmp/f")
	if got != "child" {
		t.Errorf("got %q", got)
	}
}

func TestNoStreams(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	p, err := r.Start(context.Background(), shell(root, "cat; echo x; [ /dev/null -ef /proc/self/fd/0 ]"), IO{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// A stdin that never ends must not keep Wait from returning, and nothing may be
// left reading it if it can be interrupted.
func TestStdinDoesNotHang(t *testing.T) {
	root := busyboxRoot(t)
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer in.Close()
	if _, err := runIO(t, first(newRunner(t)), shell(root, "true"), IO{Stdin: in}); err != nil {
		t.Error(err)
	}
	if _, err := w.WriteString("next"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := in.Read(buf); err != nil || string(buf[:n]) != "next" {
		t.Errorf("after the container: read %q, %v", buf[:n], err)
	}
	// One that cannot be interrupted.
	endless, _ := io.Pipe()
	if _, err := runIO(t, first(newRunner(t)), shell(root, "true"), IO{Stdin: endless}); err != nil {
		t.Error(err)
	}
}

func first(r Runner, _ string) Runner { return r }

func TestFailingWriter(t *testing.T) {
	root := busyboxRoot(t)
	r, _ := newRunner(t)
	full := errors.New("disk full")
	p, err := r.Start(context.Background(), shell(root, "yes | head -c 1000000"), IO{Stdout: failing{full}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); !errors.Is(err, full) {
		t.Errorf("Wait: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestTerminal(t *testing.T) {
	root := busyboxRoot(t)
	sizes := make(chan Size, 1)
	sizes <- Size{Rows: 33, Cols: 77}
	in, answers := io.Pipe()
	var out bytes.Buffer
	resized := &onText{text: "33 77", then: func() {
		sizes <- Size{Rows: 44, Cols: 88}
		_, _ = io.WriteString(answers, "go\n")
	}}
	s := shell(root, `trap 'stty size; exit 4' WINCH; tty; stty size; while :; do read x; done`)
	p, err := first(newRunner(t)).Start(context.Background(), s, IO{
		Terminal: true, Stdin: in, Stdout: io.MultiWriter(&out, resized), Resize: sizes,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Wait()
	if exit := (*ExitError)(nil); !errors.As(err, &exit) || exit.Code != 4 {
		t.Errorf("Wait: %v", err)
	}
	got := strings.ReplaceAll(strings.ReplaceAll(out.String(), "\r", ""), "go\n", "")
	if want := "/dev/pts/0\n33 77\n44 88\n"; got != want && got != strings.Replace(want, "pts/0", "console", 1) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// onText calls then once when text has been written.
type onText struct {
	text string
	seen string
	then func()
}

func (o *onText) Write(b []byte) (int, error) {
	o.seen += string(b)
	if o.then != nil && strings.Contains(o.seen, o.text) {
		then := o.then
		o.then = nil
		go then()
	}
	return len(b), nil
}
