package builds

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/cmd/lamina/internal/progress"
	"lamina/solver"
)

// replayed is what the plain display shows of a build.
func replayed(t *testing.T, s *Store, id string) string {
	t.Helper()
	var out bytes.Buffer
	d, err := progress.New(progress.Plain, &out, progress.Options{Past: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replay(t.Context(), id, false, d.Event); err != nil {
		t.Fatal(err)
	}
	d.Close()
	return out.String()
}

// record records a build in which two steps run at once, and one fails.
func record(t *testing.T, s *Store) *Recording {
	r := begin(t, s, Build{Started: noon})
	r.Warn("look out")
	metadata := r.Phase("[internal] load metadata", noon)
	r.EndPhase(metadata, noon.Add(time.Second), Succeeded, nil)
	happens(r, 1, nodeCopy, solver.Cached)
	happens(r, 2, nodeOne, solver.Started)
	happens(r, 3, nodeTwo, solver.Started)
	happens(r, 4, nodeOne, solver.OutputWritten, "one 1\none ")
	happens(r, 5, nodeTwo, solver.OutputWritten, "two 1\n")
	happens(r, 6, nodeOne, solver.OutputWritten, "2\n")
	happens(r, 7, nodeOne, solver.Done)
	happens(r, 8, nodeTwo, solver.OutputWritten, "two 2")
	happens(r, 9, nodeTwo, solver.Failed, errors.New("exit code 1"))
	export := r.Phase("exporting to image", noon.Add(10*time.Second))
	r.PhaseSaid(export, "naming to app")
	r.EndPhase(export, noon.Add(11*time.Second), Failed, errors.New("no space"))
	return r
}

const recorded = `WARN: look out
#1 [internal] load metadata
#1 DONE 1.0s

#2 [1/3] COPY . /
#2 CACHED

#3 [2/3] RUN one
#3 2.000 one 1
#3 2.000 one 2
#3 DONE 5.0s

#4 [3/3] RUN two
#4 2.000 two 1
#4 5.000 two 2
#4 ERROR: exit code 1

#5 exporting to image
#5 1.000 naming to app
#5 ERROR: no space
------
 > [3/3] RUN two:
2.000 two 1
5.000 two 2
------
------
 > exporting to image:
1.000 naming to app
------
`

func TestReplay(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := record(t, s)
	if err := r.End(Failed, errors.New("exit code 1"), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recorded, replayed(t, s, r.ID())); diff != "" {
		t.Error(diff)
	}
	for step, want := range map[int]string{2: "", 3: "one 1\none 2\n", 4: "two 1\ntwo 2"} {
		var got strings.Builder
		if err := s.StepLog(t.Context(), r.ID(), step, false, &got); err != nil || got.String() != want {
			t.Errorf("step %d printed %q, %v", step, got.String(), err)
		}
	}
}

// A build that goes on is followed to its end, and nothing is told twice.
func TestReplayFollows(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{Started: noon})
	var mu sync.Mutex
	var told []string
	seen := make(chan string, 100)
	show := func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		what := map[progress.Kind]string{
			progress.Start: "start", progress.Cached: "cached", progress.Done: "done", progress.Log: string(e.Log), progress.Canceled: "canceled",
		}[e.Kind]
		told = append(told, e.Step+" "+what)
		seen <- what
	}
	ended := make(chan error)
	go func() { ended <- openStore(t, s.store.Path()).Replay(t.Context(), r.ID(), true, show) }()
	wait := func(want string) {
		for what := range seen {
			if what == want {
				return
			}
		}
	}
	var step bytes.Buffer
	stepEnded := make(chan error)
	go func() { stepEnded <- openStore(t, s.store.Path()).StepLog(t.Context(), r.ID(), 3, true, &step) }()

	happens(r, 1, nodeOne, solver.Started)
	happens(r, 1, nodeOne, solver.OutputWritten, "a")
	wait("a")
	happens(r, 2, nodeOne, solver.OutputWritten, "b")
	wait("b")
	happens(r, 3, nodeOne, solver.Done)
	r.saveLater() // as after a second
	wait("done")
	if err := <-stepEnded; err != nil || step.String() != "ab" {
		t.Errorf("the step printed %q, %v", step.String(), err)
	}
	happens(r, 4, nodeTwo, solver.Started)
	happens(r, 4, nodeTwo, solver.OutputWritten, "c")
	if err := r.End(Canceled, errors.New("interrupted"), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	want := []string{"step-3 start", "step-3 a", "step-3 b", "step-3 done", "step-4 start", "step-4 c"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestLogThatWasRemoved(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := record(t, s)
	if err := r.End(Failed, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path(r.ID(), logFile)); err != nil {
		t.Fatal(err)
	}
	got := replayed(t, s, r.ID())
	if !strings.Contains(got, "#4 [3/3] RUN two\n#4 ERROR: exit code 1\n") || !strings.Contains(got, "\nWARN: the log was removed") {
		t.Errorf("the build is shown as\n%s", got)
	}
	if err := s.StepLog(t.Context(), r.ID(), 3, false, io.Discard); err == nil || !strings.Contains(err.Error(), "the log was removed") {
		t.Errorf("the log of a step: %v", err)
	}
	if err := s.StepLog(t.Context(), r.ID(), 2, false, io.Discard); err != nil {
		t.Errorf("the log of a step that printed nothing: %v", err)
	}
}

func TestLogThatIsDamaged(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := record(t, s)
	if err := r.End(Failed, nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.path(r.ID(), logFile), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("?"), int64(len("3 4000000 10\none 1\none \n"))); err != nil {
		t.Fatal(err)
	}
	got := replayed(t, s, r.ID())
	if !strings.Contains(got, "one 1\n") || !strings.Contains(got, "#4 ERROR: exit code 1\n") || !strings.Contains(got, "WARN: the log is damaged at byte 24\n") {
		t.Errorf("the build is shown as\n%s", got)
	}
}

// What was printed before the document said which step that is, is shown in any case.
func TestReplayOfAnEarlyDeath(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{Started: noon})
	happens(r, 2, nodeOne, solver.OutputWritten, "hello\n")
	abandon(r)
	want := "#1 step 4\n#1 0.000 hello\n"
	if diff := cmp.Diff(want, replayed(t, s, r.ID())); diff != "" {
		t.Error(diff)
	}
}

func TestExecuted(t *testing.T) {
	s := openStore(t, t.TempDir())
	g, _ := graph()
	run := func(v solver.Verdict, output string) string {
		r := begin(t, s, Build{})
		happens(r, 1, nodeOne, solver.Started)
		happens(r, 1, nodeOne, solver.OutputWritten, output)
		happens(r, 1, nodeOne, map[solver.Verdict]solver.Status{solver.VerdictCached: solver.Cached, solver.VerdictExecuted: solver.Done}[v])
		r.Traced(g, []solver.Trace{{Node: 0}, {Node: nodeOne, Verdict: v, Result: "sha256:one"}}, as)
		if err := r.End(Succeeded, nil, nil); err != nil {
			t.Fatal(err)
		}
		return r.ID()
	}
	want := run(solver.VerdictExecuted, "hello")
	run(solver.VerdictExecuted, "")
	cached := run(solver.VerdictCached, "")
	run(solver.VerdictExecuted, "later")
	if id, step, ok := s.Executed(get(t, s, cached), 1); !ok || id != want || step != 1 {
		t.Errorf("it was executed as step %d of %s, %v; want %s", step, id, ok, want)
	}
	if id, _, ok := s.Executed(get(t, s, want), 1); ok {
		t.Errorf("what was executed was executed in %s", id)
	}
}
