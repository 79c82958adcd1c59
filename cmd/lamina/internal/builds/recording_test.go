package builds

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"lamina/solver"
)

// happens tells r what happened to a node, a second after the build began and each
// time one later.
func happens(r *Recording, seconds int, node solver.ID, status solver.Status, more ...any) {
	e := solver.Event{Time: r.build.Started.Add(time.Duration(seconds) * time.Second), Node: node, Status: status}
	for _, m := range more {
		switch m := m.(type) {
		case string:
			e.Log = []byte(m)
		case error:
			e.Err = m
		}
	}
	r.Event(e)
}

func TestRecording(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{Context: "/app", Dockerfile: "/app/Dockerfile", Started: noon})
	happens(r, 1, nodeCopy, solver.Cached)
	happens(r, 1, nodeOne, solver.Started)
	happens(r, 2, nodeOne, solver.OutputWritten, "hello\n")
	happens(r, 3, nodeOne, solver.Done)
	happens(r, 3, nodeTwo, solver.Started)
	happens(r, 4, nodeTwo, solver.Failed, errors.New("exit code 1"))
	phase := r.Phase("exporting to image", noon.Add(4*time.Second))
	r.PhaseSaid(phase, "naming to app")
	r.EndPhase(phase, noon.Add(5*time.Second), Succeeded, nil)
	r.Warn("look out")
	g, _ := graph()
	r.Traced(g, []solver.Trace{
		{Node: 0, Verdict: solver.VerdictSource},
		{Node: 2, Verdict: solver.VerdictSource},
		{Node: nodeCopy, Verdict: solver.VerdictCached, Narrow: "sha256:copy", Took: time.Minute},
		{Node: nodeOne, Verdict: solver.VerdictExecuted, Whole: "sha256:one", Took: time.Millisecond},
		{Node: nodeTwo, Verdict: solver.VerdictFailed, Err: errors.New("exit code 1")},
	}, as)
	images := []Image{{Digest: digest.FromString("m"), Names: []string{"docker.io/library/app:1"}}}
	if err := r.End(Failed, errors.New("it failed"), images); err != nil {
		t.Fatal(err)
	}
	want := &Build{
		Version: documentVersion, ID: nextID(noon, nil), Context: "/app", Dockerfile: "/app/Dockerfile",
		Started: noon, Status: Failed, Error: "it failed", Images: images, Warnings: []string{"look out"},
		Steps: []Step{
			{Name: "FROM scratch", Kind: "image", Op: []byte(`{}`), Verdict: solver.VerdictSource},
			{Name: "context", Kind: "local", Op: []byte(`{"name":"context"}`), Verdict: solver.VerdictSource},
			{
				Name: "[1/3] COPY . /", Kind: "copy", Op: []byte(`{"sources":[{"paths":["."]}],"dest":"/"}`),
				Verdict: solver.VerdictCached, Narrow: "sha256:copy", Started: noon.Add(time.Second), Took: time.Minute,
			},
			{
				Name: "[2/3] RUN one", Kind: "run", Op: []byte(`{"args":["one"]}`), Verdict: solver.VerdictExecuted,
				Whole: "sha256:one", Started: noon.Add(time.Second), Took: 2 * time.Second, Log: 6,
			},
			{
				Name: "[3/3] RUN two", Kind: "run", Op: []byte(`{"args":["two"]}`), Verdict: solver.VerdictFailed,
				Started: noon.Add(3 * time.Second), Took: time.Second, Error: "exit code 1",
			},
		},
		Phases: []Phase{{
			Name: "exporting to image", Started: noon.Add(4 * time.Second), Took: time.Second, Status: Succeeded, Said: []string{"naming to app"},
		}},
	}
	got := get(t, s, r.ID())
	if got.Ended.IsZero() {
		t.Error("it is not told when the build ended")
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Build{}, "Ended")); diff != "" {
		t.Error(diff)
	}
	if s.running(r.ID()) {
		t.Error("it still passes for running")
	}
}

// What has no trace in the end, because the solve never came so far, is what it was.
func TestRecordingWithoutTraces(t *testing.T) {
	s := openStore(t, t.TempDir())
	id := built(t, s, Build{}, Canceled)
	b := get(t, s, id)
	if b.Status != Canceled || len(b.Steps) != 5 {
		t.Fatalf("the build is %v with %d steps", b.Status, len(b.Steps))
	}
	for _, step := range b.Steps {
		if step.Verdict != solver.VerdictUnneeded {
			t.Errorf("%s is %q", step.Name, step.Verdict)
		}
	}
	if diff := cmp.Diff([]Input{{Step: 0}, {Step: 1}}, b.Steps[2].Inputs); diff != "" {
		t.Errorf("inputs of the COPY: %s", diff)
	}
}

func TestRunningBuild(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{})
	happens(r, 1, nodeOne, solver.Started)
	other := openStore(t, s.store.Path())
	b := get(t, other, r.ID())
	if b.Status != Running || b.Steps[3].Verdict != Executing || b.Steps[4].Verdict != Pending {
		t.Errorf("a running build is %q, its steps %q and %q", b.Status, b.Steps[3].Verdict, b.Steps[4].Verdict)
	}
	if err := other.Remove(r.ID()); !errors.Is(err, ErrRunning) {
		t.Errorf("removing a running build: %v", err)
	}
	if err := other.Trim(time.Now().AddDate(1, 0, 0), Limits{}); err != nil {
		t.Error(err)
	}
	if err := r.End(Succeeded, nil, nil); err != nil {
		t.Fatal(err)
	}
	if b := get(t, other, r.ID()); b.Status != Succeeded {
		t.Errorf("then it is %q", b.Status)
	}
	if err := other.Remove(r.ID()); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(r.ID()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed build: %v", err)
	}
}

func TestKilledBuild(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{})
	happens(r, 1, nodeCopy, solver.Cached)
	happens(r, 1, nodeOne, solver.Started)
	happens(r, 2, nodeOne, solver.OutputWritten, "so far\n")
	r.Phase("sending", time.Now())
	r.saveLater()
	abandon(r)
	b := get(t, s, r.ID())
	if b.Status != Killed || b.Ended.IsZero() {
		t.Errorf("the build is %q, ended %v", b.Status, b.Ended)
	}
	var verdicts []solver.Verdict
	for _, step := range b.Steps {
		verdicts = append(verdicts, step.Verdict)
	}
	want := []solver.Verdict{
		solver.VerdictUnneeded, solver.VerdictUnneeded, solver.VerdictCached, solver.VerdictCanceled, solver.VerdictUnneeded,
	}
	if diff := cmp.Diff(want, verdicts); diff != "" {
		t.Errorf("verdicts: %s", diff)
	}
	if b.Phases[0].Status != Killed {
		t.Errorf("the phase is %q", b.Phases[0].Status)
	}
	var log bytes.Buffer
	if err := s.StepLog(t.Context(), r.ID(), 3, true, &log); err != nil || log.String() != "so far\n" {
		t.Errorf("the log is %q, %v", log.String(), err)
	}
	if err := s.Remove(r.ID()); err != nil {
		t.Error(err)
	}
}

// A solve that begins again finds in the cache what it executed before.
func TestStepsOfASecondSolve(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{Started: noon})
	happens(r, 1, nodeOne, solver.Started)
	happens(r, 2, nodeOne, solver.Done)
	happens(r, 3, nodeOne, solver.Cached)
	g, _ := graph()
	r.Traced(g, []solver.Trace{{Node: nodeOne, Verdict: solver.VerdictCached, Took: time.Minute}}, as)
	if err := r.End(Succeeded, nil, nil); err != nil {
		t.Fatal(err)
	}
	if step := get(t, s, r.ID()).Steps[0]; step.Verdict != solver.VerdictExecuted || step.Took != time.Second {
		t.Errorf("the step is %q after %v", step.Verdict, step.Took)
	}
}

func TestNilRecording(t *testing.T) {
	var r *Recording
	g, roots := graph()
	r.Solving(g, roots, as)
	happens(&Recording{}, 1, nodeOne, solver.Progressed)
	r.Event(solver.Event{Status: solver.OutputWritten, Log: []byte("x")})
	r.Event(solver.Event{Status: solver.Done})
	r.Traced(g, nil, as)
	r.Warn("")
	r.PhaseSaid(r.Phase("p", noon), "")
	r.EndPhase(0, noon, Failed, nil)
	if err := r.End(Failed, context.Canceled, nil); err != nil || r.ID() != "" {
		t.Errorf("%v, %q", err, r.ID())
	}
}

// A step that prints very much takes no more memory than one that prints little.
func TestLongOutputTakesNoMemory(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := begin(t, s, Build{})
	const total, piece = 16 << 20, 32 << 10
	e := solver.Event{Node: nodeOne, Status: solver.OutputWritten, Log: bytes.Repeat([]byte("0123456789abcde\n"), piece/16)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range total / piece {
		e.Time = time.Now()
		r.Event(e)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes of output took %d bytes of memory", total, took)
	}
	if err := r.End(Succeeded, nil, nil); err != nil {
		t.Fatal(err)
	}
	h := digest.Canonical.Digester()
	if err := s.StepLog(t.Context(), r.ID(), 3, false, h.Hash()); err != nil {
		t.Fatal(err)
	}
	if want := digest.FromString(strings.Repeat(string(e.Log), total/piece)); h.Digest() != want {
		t.Error("the log is not what was printed")
	}
	if b := get(t, s, r.ID()); b.Steps[3].Log != total {
		t.Errorf("the step printed %d bytes", b.Steps[3].Log)
	}
}

// smallDisk is a filesystem of that many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(dir + "/filler")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// A log stops before it fills the disk, and says so.
func TestLogLeavesSpace(t *testing.T) {
	dir := smallDisk(t, "24m")
	s := openStore(t, dir)
	r := begin(t, s, Build{})
	for range 32 {
		happens(r, 1, nodeOne, solver.OutputWritten, strings.Repeat("x", 1<<20))
	}
	if err := r.End(Succeeded, nil, nil); err != nil {
		t.Fatal(err)
	}
	b := get(t, s, r.ID())
	if b.LogEnds != errNoSpace.Error() || b.Steps[3].Log != 32<<20 {
		t.Errorf("the log ends for %q, the step printed %d bytes", b.LogEnds, b.Steps[3].Log)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Bavail*uint64(st.Bsize) < st.Blocks*uint64(st.Bsize)/reserveShare {
		t.Errorf("%d bytes are free", st.Bavail*uint64(st.Bsize))
	}
	err := s.StepLog(t.Context(), r.ID(), 3, false, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "the log is not whole: there is little space left") {
		t.Errorf("reading the log: %v", err)
	}
}

// On a full disk a build gives up its log, and is remembered without.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "8m")
	s := openStore(t, dir)
	r := begin(t, s, Build{Context: "/app"})
	happens(r, 1, nodeOne, solver.OutputWritten, strings.Repeat("x", 1<<20))
	fill(t, dir)
	happens(r, 1, nodeOne, solver.OutputWritten, strings.Repeat("y", 1<<20))
	if err := r.End(Succeeded, nil, nil); err != nil {
		t.Fatal(err)
	}
	b := get(t, s, r.ID())
	if b.Status != Succeeded || b.LogEnds == "" || b.Steps[3].Log != 2<<20 {
		t.Errorf("the build %q, its log ends for %q, the step printed %d bytes", b.Status, b.LogEnds, b.Steps[3].Log)
	}
	fill(t, dir)
	if _, err := s.Begin(Build{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk a build begins to be remembered: %v", err)
	}
	if ids, err := s.IDs(); err != nil || len(ids) != 1 {
		t.Errorf("builds are %v, %v", ids, err)
	}
	left, err := os.ReadDir(s.store.Path(storeDir))
	if err != nil || len(left) != 1 {
		t.Errorf("there is %v, %v", left, err)
	}
}
