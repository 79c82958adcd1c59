package main

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"lamina/cmd/lamina/internal/cli"
)

// A step that says something, waits until the test lets it go, and says something more.
func waitingStep(t *testing.T) (step string, running, release chan struct{}) {
	t.Helper()
	running, release = make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(running)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.CloseClientConnections)
	return "RUN echo it runs; wget -q -O /dev/null " + srv.URL + "; echo it ha''s run\n", running, release
}

// awaitLog returns once a line of the log of a running build ends in text: what a step printed before
// it told the test something else may still be under way then.
func (l *tool) awaitLog(build, text string) {
	l.Helper()
	follow := l.command("builds", "logs", "-f", build)
	out, err := follow.StdoutPipe()
	if err == nil {
		err = follow.Start()
	}
	if err != nil {
		l.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasSuffix(lines.Text(), text) {
	}
	if !strings.HasSuffix(lines.Text(), text) {
		l.Errorf("the log of build %s ends without %q", build, text)
	}
	_ = follow.Process.Kill()
	_ = follow.Wait()
}

// A build that is running can be looked at and followed, and cannot be removed.
func TestRunningBuildIsRemembered(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	step, running, release := waitingStep(t)
	l.file("Dockerfile", busyboxBase+"FROM base\n"+step)
	built := make(chan result)
	go func() { built <- finish(t, l.command("build", "-t", "app", ".")) }()
	<-running
	id := strings.TrimSpace(l.must("builds", "ls", "--filter", "status=running", "-q"))
	if id == "" {
		t.Error("the running build is not listed")
	}
	l.awaitLog(id, "it runs")
	l.fails(l.run("builds", "rm", "latest"), cli.ExitFailure, "lamina: build "+id+": it is still running")
	l.must("builds", "rm", "--all")
	if got := l.must("builds", "logs", id); !strings.Contains(got, "it runs\n") || strings.Contains(got, "it has run") {
		t.Errorf("the log so far is\n%s", got)
	}
	followed := make(chan result)
	go func() { followed <- finish(t, l.command("builds", "logs", "-f", id)) }()
	close(release)
	if r := <-built; r.code != 0 {
		t.Fatalf("the build failed:\n%s", r.stderr)
	}
	if r := <-followed; r.code != 0 || !strings.Contains(r.stdout, "it has run\n") || !strings.Contains(r.stdout, "naming to docker.io/library/app:latest\n") {
		t.Errorf("exit code %d, followed\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	if got := l.must("builds", "ls", "--format", "{{.Status}} {{.Steps}}"); got != "succeeded 0/3 cached\n" {
		t.Errorf("then it is %s", got)
	}
}

// Of a build that is killed, what it did so far is remembered; of one that is
// interrupted, that it was.
func TestEndedBuildIsRemembered(t *testing.T) {
	needRun(t)
	for _, test := range []struct {
		signal os.Signal
		status string
	}{
		{os.Kill, "killed"},
		{os.Interrupt, "canceled"},
	} {
		t.Run(test.status, func(t *testing.T) {
			l := newTool(t)
			l.busybox()
			step, running, _ := waitingStep(t)
			l.file("Dockerfile", busyboxBase+"FROM base\n"+step)
			cmd := l.command("build", "-t", "app", ".")
			ended := make(chan result)
			go func() { ended <- finish(t, cmd) }()
			<-running
			l.awaitLog("latest", "it runs")
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			<-ended
			if got := l.must("builds", "ls", "--format", "{{.Status}}"); got != test.status+"\n" {
				t.Errorf("the build is %s", got)
			}
			if got := l.must("builds", "logs"); !strings.Contains(got, "it runs\n") {
				t.Errorf("its log is\n%s", got)
			}
			l.must("builds", "rm", "latest")
			l.usable()
		})
	}
}

// That --timeout ends a build is a failure, and told as such.
func TestLateBuildIsRemembered(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	step, _, _ := waitingStep(t)
	l.file("Dockerfile", busyboxBase+"FROM base\n"+step)
	if r := l.run("build", "--timeout", "2s", "."); r.code != cli.ExitTimeout {
		t.Fatalf("exit code %d:\n%s", r.code, r.stderr)
	}
	want := "failed the build is not finished after 2s, the limit of --timeout\n"
	if got := l.must("builds", "ls", "--format", "{{.Status}} {{.Error}}"); got != want {
		t.Errorf("the build is %q, want %q", got, want)
	}
}

// A build that cannot be remembered is built all the same.
func TestBuildThatCannotBeRemembered(t *testing.T) {
	l := newTool(t)
	l.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	l.must("build", ".")
	l.must("builds", "rm", "--all")
	if err := os.Remove(l.root + "/builds"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.root+"/builds", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := l.run("build", "-t", "app", ".")
	if r.code != 0 || !strings.Contains(r.stderr, "the build will not be remembered") {
		t.Errorf("exit code %d:\n%s", r.code, r.stderr)
	}
	if !strings.Contains(l.must("images"), "app") {
		t.Error("there is no image")
	}
}
