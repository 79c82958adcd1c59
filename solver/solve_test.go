package solver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
)

// fakeWorker executes a Run by sleeping for as long as its first argument says.
type fakeWorker struct {
	mu       sync.Mutex
	executed []string          // arguments of what was executed, in order of start
	running  int               // now
	most     int               // at once
	content  map[string]string // of Local sources by name, read by Copy
	changed  int               // how many Executes report ErrChanged
	lost     map[snapshot.ID]bool
	fail     map[string]error
}

func (w *fakeWorker) Narrow(_ context.Context, t Task) ([]Identity, error) {
	if _, ok := t.Node.Op.(Copy); !ok {
		return nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	read := make([]Identity, len(t.Inputs))
	for i, in := range t.Inputs[1:] {
		// What a Copy reads of a stage is, here, the same whatever the stage did.
		name := "stage"
		if l, ok := in.Source.(Local); ok {
			name = l.Name
		}
		read[i+1] = Identity{Digest: digest.FromString(w.content[name])}
	}
	return read, nil
}

func (w *fakeWorker) Execute(ctx context.Context, t Task, read []Identity, out Output) ([]snapshot.Layer, error) {
	label, d := labelOf(t.Node.Op)
	w.mu.Lock()
	w.executed = append(w.executed, label)
	w.running++
	w.most = max(w.most, w.running)
	changed := w.changed > 0
	w.changed--
	n := len(w.executed)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.running--
		w.mu.Unlock()
	}()
	if changed {
		return nil, fmt.Errorf("file: %w", ErrChanged)
	}
	fmt.Fprintf(out, "hello from %s\n", label)
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := w.fail[label]; err != nil {
		return nil, err
	}
	for i := range read {
		if d := read[i].Digest; d != "" {
			read[i].Parts = []ocispec.Descriptor{{Digest: d}}
		}
	}
	return append(slices.Clone(t.Inputs[0].Layers), snapshot.Layer{ID: snapshot.ID(fmt.Sprintf("%s-%d", label, n))}), nil
}

func labelOf(op Op) (string, time.Duration) {
	switch op := op.(type) {
	case Run:
		d, _ := time.ParseDuration(op.Args[len(op.Args)-1])
		return strings.Join(op.Args, " "), d
	case Copy:
		return "copy " + op.Dest, time.Second
	}
	return "?", 0
}

func (w *fakeWorker) Fetch(_ context.Context, op Op, _ Output) (Result, error) {
	return Result{ID: KeyOf(op, nil)}, nil
}

func (w *fakeWorker) Has(_ context.Context, r Result) bool {
	return !slices.ContainsFunc(r.Layers, func(l snapshot.Layer) bool { return w.lost[l.ID] })
}

type memoryIndex struct {
	mu sync.Mutex
	m  map[cache.Key][]byte
}

func (x *memoryIndex) Get(_ context.Context, k cache.Key) ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b, ok := x.m[k]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (x *memoryIndex) Put(_ context.Context, k cache.Key, b []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.m == nil {
		x.m = map[cache.Key][]byte{}
	}
	x.m[k] = b
	return nil
}

func scratch(g *Graph) ID { return g.Add(Node{Op: Image{}, Name: "scratch"}) }

func sleep(g *Graph, base ID, name, d string) ID {
	return g.Add(Node{Op: Run{Args: []string{name, d}}, Inputs: []ID{base}, Name: "RUN " + name, Pos: Pos{File: "Dockerfile", First: int(base) + 2}})
}

func copyFrom(g *Graph, base, from ID, dest string) ID {
	return g.Add(Node{Op: Copy{Dest: dest, Sources: []CopySource{{Paths: []string{"."}}}}, Inputs: []ID{base, from}, Name: "COPY"})
}

// timed solves in virtual time and returns how long it took.
func timed(t *testing.T, g *Graph, roots []ID, w Worker, opt Options) ([]Result, time.Duration, error) {
	t.Helper()
	begin := time.Now()
	if opt.Index == nil {
		opt.Index = &memoryIndex{}
	}
	res, err := Solve(t.Context(), g, roots, w, opt)
	return res, time.Since(begin), err
}

func TestSolveRunsBranchesInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		a := sleep(&g, scratch(&g), "a", "3s")
		b := sleep(&g, scratch(&g), "b", "5s")
		c := sleep(&g, a, "c", "4s")
		end := copyFrom(&g, c, b, "/x")
		w := &fakeWorker{}
		_, took, err := timed(t, &g, []ID{end}, w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := 8 * time.Second; took != want { // max(3+4, 5) + 1
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

func TestSolveJobsBoundExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		var roots []ID
		for i := range 6 {
			roots = append(roots, sleep(&g, scratch(&g), fmt.Sprint("n", i), "1s"))
		}
		w := &fakeWorker{}
		_, took, err := timed(t, &g, roots, w, Options{Jobs: 2})
		if err != nil {
			t.Fatal(err)
		}
		if w.most != 2 || took != 3*time.Second {
			t.Errorf("%d at once in %v, want 2 in 3s", w.most, took)
		}
	})
}

func TestSolveEqualNodesOnceAndUnusedNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		a := sleep(&g, scratch(&g), "a", "1s")
		if again := sleep(&g, scratch(&g), "a", "1s"); again != a {
			t.Fatalf("equal nodes are %d and %d", a, again)
		}
		sleep(&g, a, "unused", "9s")
		b, c := sleep(&g, a, "b", "1s"), sleep(&g, a, "c", "1s")
		w := &fakeWorker{}
		if _, _, err := timed(t, &g, []ID{b, c}, w, Options{}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(w.executed)
		if diff := cmp.Diff([]string{"a 1s", "b 1s", "c 1s"}, w.executed); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSolveRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		a := sleep(&g, scratch(&g), "a", "1s")
		b := sleep(&g, a, "b", "1s")
		index, w := &memoryIndex{}, &fakeWorker{lost: map[snapshot.ID]bool{}}
		first, _, err := timed(t, &g, []ID{b}, w, Options{Index: index})
		if err != nil {
			t.Fatal(err)
		}
		var statuses []Status
		second, took, err := timed(t, &g, []ID{b}, w, Options{Index: index, Events: func(e Event) { statuses = append(statuses, e.Status) }})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second); diff != "" || took != 0 || len(w.executed) != 2 {
			t.Errorf("second solve took %v, executed %q: %s", took, w.executed, diff)
		}
		if diff := cmp.Diff([]Status{Cached, Cached}, statuses); diff != "" {
			t.Error(diff)
		}

		// A lost layer is a miss, and so is what stands on it.
		w.lost["a 1s-1"] = true
		if _, _, err := timed(t, &g, []ID{b}, w, Options{Index: index}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a 1s", "b 1s"}, w.executed[2:]); diff != "" {
			t.Error(diff)
		}

		// A damaged record is a miss.
		for k := range index.m {
			index.m[k] = []byte("{")
		}
		if _, _, err := timed(t, &g, []ID{b}, w, Options{Index: index}); err != nil {
			t.Fatal(err)
		}
		if len(w.executed) != 6 {
			t.Errorf("executed %q", w.executed)
		}
	})
}

// What a COPY reads did not change, though the stage it reads from did: nothing
// after it runs again.
func TestSolveCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index, w := &memoryIndex{}, &fakeWorker{content: map[string]string{"stage": "same"}}
		build := func(compile string) []string {
			var g Graph
			stage := sleep(&g, scratch(&g), compile, "1s")
			end := sleep(&g, copyFrom(&g, scratch(&g), stage, "/bin/app"), "after", "1s")
			n := len(w.executed)
			if _, _, err := timed(t, &g, []ID{end}, w, Options{Index: index}); err != nil {
				t.Fatal(err)
			}
			return w.executed[n:]
		}
		if diff := cmp.Diff([]string{"make 1s", "copy /bin/app", "after 1s"}, build("make")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"make -j 1s"}, build("make -j")); diff != "" {
			t.Error(diff)
		}
		w.content["stage"] = "other"
		if diff := cmp.Diff([]string{"make -k 1s", "copy /bin/app", "after 1s"}, build("make -k")); diff != "" {
			t.Error(diff)
		}
	})
}

// What was made apart from what lies below it stays when that changes.
func TestSolveMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index, w := &memoryIndex{}, &fakeWorker{}
		build := func(base string) (Result, []string) {
			var g Graph
			linked := copyFrom(&g, scratch(&g), sleep(&g, scratch(&g), "make", "1s"), "/app")
			end := g.Add(Node{Op: Merge{}, Inputs: []ID{sleep(&g, scratch(&g), base, "1s"), linked}, Name: "LINK"})
			n := len(w.executed)
			res, _, err := timed(t, &g, []ID{end}, w, Options{Index: index})
			if err != nil {
				t.Fatal(err)
			}
			ran := w.executed[n:]
			slices.Sort(ran)
			return res[0], ran
		}
		first, ran := build("old")
		if diff := cmp.Diff([]string{"copy /app", "make 1s", "old 1s"}, ran); diff != "" {
			t.Error(diff)
		}
		second, ran := build("new")
		if diff := cmp.Diff([]string{"new 1s"}, ran); diff != "" {
			t.Error(diff)
		}
		if len(first.Layers) != 2 || len(second.Layers) != 2 ||
			first.Layers[0] == second.Layers[0] || first.Layers[1] != second.Layers[1] {
			t.Errorf("layers are %v, then %v: those of the copy should be the same, above others", first.Layers, second.Layers)
		}
		if first.ID == second.ID {
			t.Error("merged onto another base, it has the same identity")
		}
	})
}

func TestSolveLiveSourceIsReadEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index, w := &memoryIndex{}, &fakeWorker{content: map[string]string{"context": "one"}}
		build := func() int {
			var g Graph
			end := copyFrom(&g, scratch(&g), g.Add(Node{Op: Local{Name: "context"}}), "/")
			n := len(w.executed)
			if _, _, err := timed(t, &g, []ID{end}, w, Options{Index: index}); err != nil {
				t.Fatal(err)
			}
			return len(w.executed) - n
		}
		if first, second := build(), build(); first != 1 || second != 0 {
			t.Errorf("executed %d, then %d, want 1, then 0", first, second)
		}
		w.content["context"] = "two"
		if n := build(); n != 1 {
			t.Errorf("executed %d after an edit, want 1", n)
		}
		for _, data := range index.m {
			rec, err := DecodeRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			if len(rec.Inputs) != 2 || len(rec.Inputs[1].Read.Parts) != 1 || rec.Inputs[1].Read.Parts[0].Digest != rec.Inputs[1].Read.Digest || rec.Inputs[1].ID != "" {
				t.Errorf("record does not say what was read: %+v", rec.Inputs)
			}
		}
	})
}

func TestSolveChangingInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		build := func(changes int) error {
			w := &fakeWorker{content: map[string]string{}, changed: changes}
			var g Graph
			end := copyFrom(&g, scratch(&g), g.Add(Node{Op: Local{Name: "context"}}), "/")
			_, _, err := timed(t, &g, []ID{end}, w, Options{})
			return err
		}
		if err := build(attempts - 1); err != nil {
			t.Errorf("an input that settles fails the build: %v", err)
		}
		if err := build(attempts); !errors.Is(err, ErrChanged) {
			t.Errorf("an input that never settles: %v, want ErrChanged", err)
		}
	})
}

func TestSolveNoCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index, w := &memoryIndex{}, &fakeWorker{}
		build := func(noCache bool) []Result {
			var g Graph
			a := g.Add(Node{Op: Run{Args: []string{"a", "1s"}}, Inputs: []ID{scratch(&g)}, NoCache: noCache})
			res, _, err := timed(t, &g, []ID{a, sleep(&g, a, "b", "1s")}, w, Options{Index: index})
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		old := build(false)
		forced := build(true)
		if len(w.executed) != 4 || old[0].ID == forced[0].ID {
			t.Errorf("executed %q; what stands on a forced step must run again", w.executed)
		}
		if diff := cmp.Diff(forced, build(false)); diff != "" || len(w.executed) != 4 {
			t.Errorf("the forced result must be the one remembered: %s", diff)
		}
	})
}

func TestSolveFailureCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		bad := sleep(&g, scratch(&g), "bad", "1s")
		slow := sleep(&g, scratch(&g), "slow", "9h")
		after := sleep(&g, bad, "after", "1s")
		boom := errors.New("exit code 2")
		w := &fakeWorker{fail: map[string]error{"bad 1s": boom}}
		last := map[ID]Status{}
		_, took, err := timed(t, &g, []ID{after, slow}, w, Options{Events: func(e Event) { last[e.Node] = e.Status }})
		var serr *Error
		if !errors.As(err, &serr) || !errors.Is(err, boom) {
			t.Fatalf("error is %v", err)
		}
		if want := "Dockerfile:2: RUN bad: exit code 2"; err.Error() != want {
			t.Errorf("error is %q, want %q", err, want)
		}
		if took != time.Second || w.running != 0 {
			t.Errorf("took %v with %d still running", took, w.running)
		}
		if _, ran := last[after]; ran || last[bad] != Failed || last[slow] != Canceled {
			t.Errorf("last events: %v", last)
		}
	})
}

func TestSolveCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		end := sleep(&g, scratch(&g), "slow", "9h")
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("interrupted")
		time.AfterFunc(2*time.Second, func() { cancel(stop) })
		w := &fakeWorker{}
		if _, err := Solve(ctx, &g, []ID{end}, w, Options{Index: &memoryIndex{}}); !errors.Is(err, stop) {
			t.Errorf("error is %v, want %v", err, stop)
		}
		if w.running != 0 {
			t.Error("something is still running")
		}
	})
}

// Two solves of the same graph, as two processes would, execute each node once.
func TestSolveLockAtMostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := make(chan struct{}, 1)
		lock := func(ctx context.Context, _ string) (func(), error) {
			locks <- struct{}{}
			return func() { <-locks }, nil
		}
		index, w := &memoryIndex{}, &fakeWorker{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				var g Graph
				end := sleep(&g, sleep(&g, scratch(&g), "a", "1s"), "b", "1s")
				if _, err := Solve(t.Context(), &g, []ID{end}, w, Options{Index: index, Lock: lock}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff([]string{"a 1s", "b 1s"}, w.executed); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSolveEventOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Graph
		end := sleep(&g, scratch(&g), "a", "1s")
		var got []string
		_, _, err := timed(t, &g, []ID{end}, &fakeWorker{}, Options{Events: func(e Event) {
			got = append(got, fmt.Sprintf("%d %v %s", e.Node, e.Status, e.Log))
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"1 started ", "1 output hello from a 1s\n", "1 done "}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestGraphRefusesForwardReferences(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a forward reference was accepted")
		}
	}()
	var g Graph
	g.Add(Node{Op: Run{}, Inputs: []ID{0}})
}

// A record from elsewhere is as good as one of ours, and ours once it was used.
func TestSolveImports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWorker{content: map[string]string{"context": "one", "stage": "out"}, lost: map[snapshot.ID]bool{}}
		build := func(index cache.Index, imports ...Records) (solved []Solved) {
			var g Graph
			made := sleep(&g, copyFrom(&g, scratch(&g), g.Add(Node{Op: Local{Name: "context"}}), "/src"), "make", "1s")
			forced := g.Add(Node{Op: Run{Args: []string{"forced"}}, Inputs: []ID{made}, NoCache: len(imports) == 0})
			end := copyFrom(&g, scratch(&g), forced, "/bin")
			var mu sync.Mutex
			opt := Options{Index: index, Imports: imports, Solved: func(s Solved) {
				mu.Lock()
				defer mu.Unlock()
				solved = append(solved, s)
			}}
			if _, _, err := timed(t, &g, []ID{end}, w, opt); err != nil {
				t.Fatal(err)
			}
			return solved
		}
		there := &memoryIndex{}
		solved := build(there)
		if len(solved) != 4 || len(w.executed) != 4 {
			t.Fatalf("told of %d nodes, executed %q", len(solved), w.executed)
		}
		// Every key that was recorded can be told from the records alone.
		keys := map[cache.Key]bool{}
		for _, s := range solved {
			narrow, whole := s.Record.Keys()
			keys[narrow] = true
			if whole != "" {
				keys[whole] = true
			}
			if got := s.Record.Identity(); got != s.Record.Result.ID {
				t.Errorf("%s: identity %s, want %s", s.Record.Name, got, s.Record.Result.ID)
			}
		}
		for k := range there.m {
			if !keys[k] {
				t.Errorf("key %s of a record cannot be told", k)
			}
		}
		if len(keys) != len(there.m) {
			t.Errorf("%d keys, want %d", len(keys), len(there.m))
		}

		here := &memoryIndex{}
		if again := build(here, &memoryIndex{}, there); len(again) != 4 || len(w.executed) != 4 {
			t.Errorf("told of %d nodes, executed %q", len(again), w.executed[4:])
		}
		if build(here, &memoryIndex{}); len(w.executed) != 4 {
			t.Errorf("what was imported is not remembered: executed %q", w.executed[4:])
		}
	})
}

// What the cache has is found although what it was made from is gone.
func TestSolveForesees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWorker{content: map[string]string{"context": "one", "stage": "out"}, lost: map[snapshot.ID]bool{}}
		build := func(index cache.Index, imports ...Records) (executed []string, solved map[string]*Record) {
			var g Graph
			tools := sleep(&g, scratch(&g), "tools", "1s")
			src := copyFrom(&g, copyFrom(&g, scratch(&g), g.Add(Node{Op: Local{Name: "context"}}), "/src"), tools, "/tools")
			end := copyFrom(&g, scratch(&g), sleep(&g, src, "make", "1s"), "/bin")
			solved = map[string]*Record{}
			var mu sync.Mutex
			opt := Options{Index: index, Imports: imports, Solved: func(s Solved) {
				mu.Lock()
				defer mu.Unlock()
				label, _ := labelOf(g.Nodes[s.Node].Op)
				solved[label] = s.Record
			}}
			n := len(w.executed)
			if _, _, err := timed(t, &g, []ID{end}, w, opt); err != nil {
				t.Fatal(err)
			}
			return w.executed[n:], solved
		}
		_, all := build(&memoryIndex{})
		// with has the records of some steps, as they are or without their results.
		with := func(absent []string, present ...string) *memoryIndex {
			index := &memoryIndex{}
			for _, label := range slices.Concat(absent, present) {
				r := *all[label]
				if slices.Contains(absent, label) {
					r.Absent, r.Result.Layers = true, nil
				}
				narrow, whole := r.Keys()
				remember(t.Context(), index, narrow, &r)
				if whole != "" {
					remember(t.Context(), index, whole, &r)
				}
			}
			return index
		}
		none := []string{}
		everything := []string{"copy /bin", "copy /src", "copy /tools", "make 1s", "tools 1s"}
		for _, tc := range []struct {
			name  string
			index *memoryIndex
			want  []string
		}{
			{"what a stage's COPY reads of another is known", with([]string{"copy /tools"}, "copy /bin"), none},
			{"it is not", with(nil, "copy /bin"), []string{"copy /src", "copy /tools", "make 1s", "tools 1s"}},
			{"an identity is no result", with([]string{"copy /bin", "copy /tools"}), everything},
			{"only the last is missing", with(nil, "copy /src", "copy /tools", "make 1s"), []string{"copy /bin"}},
		} {
			got, _ := build(tc.index)
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, append([]string{}, got...)); diff != "" {
				t.Errorf("%s: %s", tc.name, diff)
			}
		}
		// What was not needed is told of, so that the next cache can say it again.
		_, again := build(with([]string{"copy /tools"}, "copy /bin"))
		if r := again["copy /tools"]; len(again) != 2 || r == nil || !r.Absent || r.Identity() != all["copy /tools"].Result.ID {
			t.Errorf("told of %v", again)
		}
		// What was learned of other places is known without them, too.
		here := &memoryIndex{}
		for _, imports := range [][]Records{{with([]string{"copy /tools"}, "copy /bin")}, nil} {
			if got, _ := build(here, imports...); len(got) > 0 {
				t.Errorf("with %d imports %q are executed", len(imports), got)
			}
		}
		w.content["context"] = "two"
		got, _ := build(with([]string{"copy /tools"}, "copy /bin"))
		slices.Sort(got)
		if diff := cmp.Diff([]string{"copy /src", "copy /tools", "make 1s", "tools 1s"}, got); diff != "" {
			t.Errorf("after an edit: %s", diff)
		}
	})
}
