package builds

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/solver"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(keepRecordingEnv); root != "" {
		keepRecording(root)
	}
	os.Exit(m.Run())
}

func (s *Store) all(t testing.TB) (ids []string) {
	t.Helper()
	ids, err := s.IDs()
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestBuildsAreListedLatestFirst(t *testing.T) {
	s := openStore(t, t.TempDir())
	if ids := s.all(t); len(ids) != 0 {
		t.Errorf("an empty store has %v", ids)
	}
	var want []string
	now := time.Now()
	for range 4 { // of one moment
		want = append([]string{built(t, s, Build{Started: now}, Succeeded)}, want...)
	}
	if diff := cmp.Diff(want, s.all(t)); diff != "" {
		t.Error(diff)
	}
	var listed []string
	all, err := s.All()
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, b.ID)
	}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedBuilds(t *testing.T) {
	for name, damage := range map[string]func(dir, other string) error{
		"torn":  func(dir, _ string) error { return os.Truncate(filepath.Join(dir, documentFile), 100) },
		"empty": func(dir, _ string) error { return os.Truncate(filepath.Join(dir, documentFile), 0) },
		"gone":  func(dir, _ string) error { return os.Remove(filepath.Join(dir, documentFile)) },
		"a file": func(dir, _ string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		},
		"nothing in it": func(dir, _ string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) },
		"another's": func(dir, other string) error {
			return os.Rename(filepath.Join(other, documentFile), filepath.Join(dir, documentFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			other := built(t, s, Build{}, Succeeded)
			bad := built(t, s, Build{}, Succeeded)
			good := built(t, s, Build{}, Succeeded)
			if err := damage(s.path(bad), s.path(other)); err != nil {
				t.Fatal(err)
			}
			_, err := s.Get(bad)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.ID != bad || !strings.Contains(damaged.Hint(), "lamina builds rm "+bad) {
				t.Errorf("reading it: %v", err)
			}
			if b := get(t, s, good); b.Status != Succeeded {
				t.Errorf("the other is %q", b.Status)
			}
			if err := s.Blobs(func(digest.Digest) {}); err != nil {
				t.Error(err)
			}
			if id, err := s.Find(bad); err != nil || id != bad {
				t.Errorf("it is found as %q, %v", id, err)
			}
			if err := s.Remove(bad); err != nil {
				t.Errorf("removing it: %v", err)
			}
			if slices.Contains(s.all(t), bad) {
				t.Error("it is still there")
			}
		})
	}
}

func TestRemoveKnowsOnlyBuilds(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, id := range []string{"", "..", "../blobs", "576jvxwq"} {
		if err := s.Remove(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removing %q: %v", id, err)
		}
	}
	if _, err := os.Stat(s.store.Path("blobs")); err != nil {
		t.Error(err)
	}
}

func TestTrim(t *testing.T) {
	day := 24 * time.Hour
	var ids []string
	for i := range 6 { // one each day, 4 days ago to tomorrow
		ids = append(ids, nextID(noon.Add(time.Duration(i-4)*day), nil))
	}
	slices.Reverse(ids)
	for _, test := range []struct {
		name   string
		limits Limits
		kept   int // builds
		logs   int
	}{
		{"everything", Limits{100, 100 * day, 1 << 30}, 6, 6},
		{"number", Limits{2, 100 * day, 1 << 30}, 2, 2},
		{"age", Limits{100, 2*day + time.Hour, 1 << 30}, 4, 4},
		{"logs", Limits{100, 100 * day, 2500}, 6, 2},
		{"never the latest", Limits{0, 0, 0}, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			for _, id := range slices.Backward(ids) {
				r := begin(t, s, Build{Started: timeOf(id)})
				happens(r, 0, nodeOne, solver.OutputWritten, strings.Repeat("x", 1000))
				abandon(r)
				if r.ID() != id {
					t.Fatalf("the ID is %s, want %s", r.ID(), id)
				}
			}
			if err := s.Trim(noon, test.limits); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ids[:test.kept], s.all(t)); diff != "" {
				t.Error(diff)
			}
			var logs []string
			for _, id := range s.all(t) {
				if s.logSize(id) > 0 {
					logs = append(logs, id)
				}
			}
			if diff := cmp.Diff(ids[:test.logs], logs); diff != "" {
				t.Errorf("logs: %s", diff)
			}
		})
	}
}

func TestRecordingTrims(t *testing.T) {
	s := openStore(t, t.TempDir())
	old := built(t, s, Build{Started: time.Now().Add(-DefaultLimits().Age - time.Hour)}, Succeeded)
	for range DefaultLimits().Builds + 5 {
		built(t, s, Build{}, Succeeded)
	}
	ids := s.all(t)
	if len(ids) != DefaultLimits().Builds || slices.Contains(ids, old) {
		t.Errorf("%d builds are remembered", len(ids))
	}
}

func TestBlobsAreThoseOfSteps(t *testing.T) {
	s := openStore(t, t.TempDir())
	g, roots := graph()
	var want []digest.Digest
	for i := range 3 {
		d := digest.FromString(strconv.Itoa(i))
		want = append(want, d)
		r := begin(t, s, Build{})
		r.Solving(g, roots, as)
		read := solver.Identity{Digest: digest.FromString("read"), Parts: []ocispec.Descriptor{{Digest: d}}}
		r.Traced(g, []solver.Trace{{Node: 0}, {Node: 2}, {Node: nodeCopy, Inputs: []solver.RecordedInput{{}, {Read: read}}}}, as)
		if i == 2 {
			r.saveLater()
			abandon(r)
		} else if err := r.End(Succeeded, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []digest.Digest
	if err := s.Blobs(func(d digest.Digest) { got = append(got, d) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSizes(t *testing.T) {
	s := openStore(t, t.TempDir())
	done := built(t, s, Build{}, Succeeded)
	r := begin(t, s, Build{})
	happens(r, 0, nodeOne, solver.OutputWritten, strings.Repeat("x", 1<<20))
	sizes, err := s.Sizes()
	if err != nil {
		t.Fatal(err)
	}
	if len(sizes) != 2 || sizes[0].ID != r.ID() || sizes[1].ID != done || !sizes[0].Running || sizes[1].Running {
		t.Fatalf("sizes are %+v", sizes)
	}
	if sizes[0].Bytes < 1<<20 || sizes[1].Bytes <= 0 || sizes[1].Bytes > 1<<16 {
		t.Errorf("sizes are %+v", sizes)
	}
	abandon(r)
}

// Many processes record, list, read, trim and remove at once. None of them fails, and
// what they see is never half a build.
func TestConcurrentStores(t *testing.T) {
	dir := t.TempDir()
	openStore(t, dir)
	const writers, each = 8, 30
	var wg sync.WaitGroup
	for w := range writers {
		store, err := cache.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer store.Close()
			s := In(store)
			for i := range each {
				if err := recordOne(s, fmt.Sprintf("%d-%d", w, i)); err != nil {
					t.Error(err)
				}
				if err := s.Trim(time.Now(), Limits{Builds: 10, Age: time.Hour, Logs: 1000}); err != nil {
					t.Error(err)
				}
				all, err := s.All()
				if err != nil {
					t.Error(err)
					return
				}
				for b, err := range all {
					if err != nil {
						t.Error(err)
					} else if b.Status == Killed {
						t.Errorf("build %s passes for killed", b.ID)
					}
				}
			}
		})
	}
	wg.Wait()
	s := openStore(t, dir)
	if n := len(s.all(t)); n < 10 || n > 10+writers {
		t.Errorf("%d builds are left", n)
	}
}

// recordOne records a build, and reads it while it goes on.
func recordOne(s *Store, name string) error {
	r, err := s.Begin(Build{Context: name})
	if err != nil {
		return err
	}
	g, roots := graph()
	r.Solving(g, roots, as)
	happens(r, 1, nodeOne, solver.Started)
	happens(r, 1, nodeOne, solver.OutputWritten, name)
	b, err := s.Get(r.ID())
	if err != nil {
		return fmt.Errorf("while it runs: %w", err)
	}
	if b.Status != Running || b.Context != name {
		return fmt.Errorf("while %s runs it is %q of %s", name, b.Status, b.Context)
	}
	return r.End(Succeeded, nil, nil)
}

const keepRecordingEnv = "LAMINA_TEST_KEEP_RECORDING"

// keepRecording records builds until it is killed.
func keepRecording(root string) {
	store, err := cache.Open(root)
	for err == nil {
		s := In(store)
		var r *Recording
		if r, err = s.Begin(Build{Context: "/app"}); err != nil {
			break
		}
		g, roots := graph()
		r.Solving(g, roots, as)
		for i := range 20 {
			happens(r, i, nodeOne, solver.Started)
			happens(r, i, nodeOne, solver.OutputWritten, strings.Repeat(strconv.Itoa(i%10), 3000)+"\n")
			happens(r, i, nodeOne, solver.Done)
			r.saveLater()
		}
		if err = r.End(Succeeded, nil, nil); err == nil {
			fmt.Println("recorded")
			err = s.Trim(time.Now(), Limits{Builds: 8, Age: time.Hour, Logs: 100_000})
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Whenever a process is killed, what it recorded so far is there, and whole.
func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const kills, together = 40, 4
	statuses := map[Status]int{}
	for range kills / together {
		var all []*exec.Cmd
		var recorded io.Reader
		for i := range together {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), keepRecordingEnv+"="+dir)
			cmd.Stderr = os.Stderr
			if i == 0 {
				if recorded, err = cmd.StdoutPipe(); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			all = append(all, cmd)
		}
		if _, err := recorded.Read(make([]byte, 1)); err != nil { // one of them comes to an end at least once
			t.Fatal(err)
		}
		for _, cmd := range all {
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // a random moment
			cmd.Process.Kill()
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
				t.Errorf("recording ended by itself: %v", err)
			}
		}
		builds, err := s.All()
		if err != nil {
			t.Fatal(err)
		}
		for b, err := range builds {
			if err != nil {
				t.Error(err)
				continue
			}
			statuses[b.Status]++
			wholeLog(t, s, b)
		}
	}
	t.Logf("what was found: %v", statuses)
	if statuses[Running] > 0 || statuses[Killed] == 0 || statuses[Succeeded] == 0 {
		t.Errorf("what was found: %v", statuses)
	}
	// The next one sweeps up what half-made work is left.
	built(t, openStore(t, dir), Build{}, Succeeded)
	left, err := os.ReadDir(s.store.Path("tmp"))
	if err != nil || len(left) != 4 { // a directory and a lock of each Store
		t.Errorf("in tmp there is %v, %v", left, err)
	}
}

// wholeLog fails the test unless the log of a build of keepRecording has whole lines.
func wholeLog(t *testing.T, s *Store, b *Build) {
	t.Helper()
	var log strings.Builder
	if len(b.Steps) == 0 || s.logSize(b.ID) == 0 {
		return // it was killed before, or the log was removed
	}
	if err := s.StepLog(t.Context(), b.ID, 3, false, &log); err != nil {
		t.Error(err)
	}
	i := 0
	for line := range strings.Lines(log.String()) {
		if line != strings.Repeat(strconv.Itoa(i%10), 3000)+"\n" {
			t.Errorf("line %d of the log of build %s is %.20q…, %d bytes", i, b.ID, line, len(line))
		}
		i++
	}
	if b.Status == Succeeded && i != 20 {
		t.Errorf("the log of build %s has %d lines", b.ID, i)
	}
}
