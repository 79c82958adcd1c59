package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/cache"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/snapshot/native"
	"lamina/solver"
	"lamina/solver/local"
)

// bench is a worker over an empty store and the copying driver, whose RUNs are
// Go functions: what this package decides needs no privileges to be tested.
type bench struct {
	*testing.T
	store  *cache.Store
	pool   *layer.Pool
	worker *local.Worker
	runner *fakeRunner
	dir    string // the build context
}

func newBench(t *testing.T) *bench {
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	pool, err := layer.OpenPool(store.Path("layers"), store.Temp)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	host, err := fileset.Host(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	sums, err := fileset.OpenIndex(store.Path("sums"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sums.Close() })
	b := &bench{T: t, store: store, pool: pool, runner: &fakeRunner{do: map[string]func(runner.Spec, io.Writer) error{}}, dir: dir}
	b.worker = local.New(local.Config{
		Store: store, Blobs: store, Pool: pool,
		Driver:   func() (snapshot.Driver, error) { return native.New(pool, store.Temp), nil },
		Runner:   func() (runner.Runner, error) { return b.runner, nil },
		Contexts: map[string]snapshot.Tree{"context": host},
		Sums:     sums,
		Secret: func(id string) ([]byte, error) {
			if id == "token" {
				return []byte("s3cret"), nil
			}
			return nil, fs.ErrNotExist
		},
	})
	return b
}

// fakeRunner runs functions by the name of the command.
type fakeRunner struct {
	mu  sync.Mutex
	do  map[string]func(runner.Spec, io.Writer) error
	ran []string
}

func (f *fakeRunner) Start(_ context.Context, s runner.Spec, io runner.IO) (runner.Process, error) {
	f.mu.Lock()
	f.ran = append(f.ran, s.Args[0])
	do := f.do[s.Args[0]]
	f.mu.Unlock()
	if do == nil {
		return nil, &runner.CommandError{Code: 127, Err: fmt.Errorf("%s: not found", s.Args[0])}
	}
	return &fakeProcess{err: do(s, io.Stdout)}, nil
}

func (*fakeRunner) Sweep(context.Context) error { return nil }

type fakeProcess struct{ err error }

func (*fakeProcess) Pid() int               { return 1 }
func (*fakeProcess) Signal(os.Signal) error { return nil }
func (p *fakeProcess) Wait() error          { return p.err }

// root is the directory that a copied root is in.
func root(s runner.Spec) string { return s.Root[0].Source }

func (b *bench) write(name, data string) {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		b.Fatal(err)
	}
}

// solve solves the last node of g and returns its result, what was executed and
// what was printed.
func (b *bench) solve(g *solver.Graph) (solver.Result, error) {
	b.Helper()
	last := solver.ID(len(g.Nodes) - 1)
	results, err := solver.Solve(b.Context(), g, []solver.ID{last}, b.worker, solver.Options{
		Index: b.store.Index(), Lock: b.store.Lock,
	})
	if err != nil {
		return solver.Result{}, err
	}
	return results[0], nil
}

func (b *bench) mustSolve(g *solver.Graph) solver.Result {
	b.Helper()
	r, err := b.solve(g)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// read returns a file of r.
func (b *bench) read(r solver.Result, name string) string {
	b.Helper()
	ids, err := b.worker.Unpack(b.Context(), r.Layers, nil)
	if err != nil {
		b.Fatal(err)
	}
	stack, err := b.pool.Stack(ids)
	if err != nil {
		b.Fatal(err)
	}
	rc, err := stack.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

func copyContext(g *solver.Graph, base solver.ID, dest string, paths ...string) solver.ID {
	context := g.Add(solver.Node{Op: solver.Local{Name: "context"}})
	return g.Add(solver.Node{
		Op:     solver.Copy{Dest: dest, Sources: []solver.CopySource{{Paths: paths, ResetOwner: true}}},
		Inputs: []solver.ID{base, context}, Name: "COPY",
	})
}

func run(g *solver.Graph, base solver.ID, op solver.Run, inputs ...solver.ID) solver.ID {
	return g.Add(solver.Node{Op: op, Inputs: append([]solver.ID{base}, inputs...), Name: "RUN"})
}

func TestCopyThenRun(t *testing.T) {
	b := newBench(t)
	b.write("src/a", "one")
	b.runner.do["compile"] = func(s runner.Spec, out io.Writer) error {
		src, err := os.ReadFile(filepath.Join(root(s), "app/a"))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root(s), "app/bin"), bytes.ToUpper(src), 0o755)
	}
	build := func() solver.Result {
		var g solver.Graph
		scratch := g.Add(solver.Node{Op: solver.Image{}})
		run(&g, copyContext(&g, scratch, "/app/", "src"), solver.Run{Args: []string{"compile"}})
		return b.mustSolve(&g)
	}
	first := build()
	if got := b.read(first, "app/bin"); got != "ONE" {
		t.Errorf("made %q", got)
	}
	if diff := cmp.Diff(first, build()); diff != "" || len(b.runner.ran) != 1 {
		t.Errorf("a second build ran %q: %s", b.runner.ran, diff)
	}
	b.write("other", "is not copied")
	if build(); len(b.runner.ran) != 1 {
		t.Error("a file that no COPY names ran a step")
	}
	b.write("src/a", "two")
	if got := b.read(build(), "app/bin"); got != "TWO" || len(b.runner.ran) != 2 {
		t.Errorf("after an edit: %q, ran %q", got, b.runner.ran)
	}
}

func TestRunThatFailsKeepsNothing(t *testing.T) {
	b := newBench(t)
	b.runner.do["fail"] = func(s runner.Spec, out io.Writer) error {
		os.WriteFile(filepath.Join(root(s), "half"), nil, 0o644)
		return &runner.ExitError{Code: 3}
	}
	var g solver.Graph
	run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{Args: []string{"fail"}})
	_, err := b.solve(&g)
	var exit *runner.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("error is %v", err)
	}
	if ids, _ := b.pool.List(); len(ids) != 0 {
		t.Errorf("layers are left: %v", ids)
	}
	tmp, err := b.store.Temp()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestSecretMounts(t *testing.T) {
	b := newBench(t)
	var seen runner.Spec
	b.runner.do["use"] = func(s runner.Spec, _ io.Writer) error { seen = s; return nil }
	node := func(m ...solver.RunMount) error {
		var g solver.Graph
		run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{Args: []string{"use"}, Mounts: m})
		_, err := b.solve(&g)
		return err
	}
	mode, uid := uint32(0o440), 7
	err := node(
		solver.RunMount{Type: solver.MountSecret, SecretID: "token", Target: "/run/secrets/token", Mode: &mode, UID: &uid},
		solver.RunMount{Type: solver.MountSecret, SecretID: "token", EnvName: "TOKEN", Required: true},
		solver.RunMount{Type: solver.MountSecret, SecretID: "absent", Target: "/run/secrets/absent"},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []runner.File{{Target: "/run/secrets/token", Data: []byte("s3cret"), Mode: 0o440, UID: 7}}
	if diff := cmp.Diff(want, seen.Files); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"TOKEN=s3cret"}, seen.Env); diff != "" {
		t.Error(diff)
	}
	err = node(solver.RunMount{Type: solver.MountSecret, SecretID: "absent", Required: true, Target: "/run/secrets/absent"})
	if err == nil || !strings.Contains(err.Error(), `secret "absent" is required, but was not given: add --secret id=absent,src=FILE`) {
		t.Errorf("error is %v", err)
	}
	// The value is nowhere in the store.
	err = filepath.WalkDir(b.store.Path(), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte("s3cret")) {
			t.Errorf("the secret is in %s", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCacheMounts(t *testing.T) {
	b := newBench(t)
	var sources []string
	b.runner.do["use"] = func(s runner.Spec, _ io.Writer) error {
		sources = nil
		for _, m := range s.Mounts {
			sources = append(sources, m.Source)
			if err := os.WriteFile(filepath.Join(m.Source, "used"), nil, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	step := 0
	use := func(m ...solver.RunMount) []string {
		t.Helper()
		step++
		var g solver.Graph
		run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{Args: []string{"use", fmt.Sprint(step)}, Mounts: m})
		b.mustSolve(&g)
		return sources
	}
	cacheMount := solver.RunMount{Type: solver.MountCache, Target: "/c", CacheID: "id"}
	mode := uint32(0o700)
	withMode, private := cacheMount, cacheMount
	withMode.Mode = &mode
	private.Sharing = "private"

	first := use(cacheMount)
	if second := use(cacheMount); second[0] != first[0] {
		t.Errorf("the same cache is in %s and %s", first[0], second[0])
	}
	if other := use(withMode); other[0] == first[0] {
		t.Error("caches of different modes are the same")
	}
	if st, err := os.Stat(sources[0]); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the cache is %v, %v", st.Mode(), err)
	}
	if both := use(private, private); both[0] != both[1] {
		t.Error("one step has a private cache twice")
	}
	if alone := use(private); alone[0] != first[0] {
		t.Error("a private cache that nobody uses was not used again")
	}
}

// A cache may begin with files of a stage.
func TestCacheMountFrom(t *testing.T) {
	b := newBench(t)
	b.write("seed/a", "from the context")
	var got string
	b.runner.do["use"] = func(s runner.Spec, _ io.Writer) error {
		data, err := os.ReadFile(filepath.Join(s.Mounts[0].Source, "a"))
		got = string(data)
		return err
	}
	var g solver.Graph
	scratch := g.Add(solver.Node{Op: solver.Image{}})
	run(&g, scratch, solver.Run{Args: []string{"use"}, Mounts: []solver.RunMount{
		{Type: solver.MountCache, Target: "/c", CacheID: "seeded", Input: 1, Source: "/seed"},
	}}, copyContext(&g, scratch, "/", "."))
	b.mustSolve(&g)
	if got != "from the context" {
		t.Errorf("cache begins with %q", got)
	}
}

func TestBindMounts(t *testing.T) {
	b := newBench(t)
	b.write("d/f", "bound")
	b.write("d/other", "x")
	var seen runner.Spec
	b.runner.do["use"] = func(s runner.Spec, _ io.Writer) error { seen = s; return nil }
	build := func(source string) error {
		var g solver.Graph
		scratch := g.Add(solver.Node{Op: solver.Image{}})
		run(&g, scratch, solver.Run{Args: []string{"use"}, Mounts: []solver.RunMount{
			{Type: solver.MountBind, Target: "/m", Input: 1, Source: source, ReadOnly: true},
		}}, copyContext(&g, scratch, "/", "."))
		_, err := b.solve(&g)
		return err
	}
	if err := build("/d/f"); err != nil {
		t.Fatal(err)
	}
	want := []snapshot.Mount{{Type: "bind", Source: "mount0:/d/f", Target: "/m", Options: []string{"ro", "file"}}}
	if diff := cmp.Diff(want, seen.Mounts); diff != "" {
		t.Error(diff)
	}
	b.write("d/other", "changed, but not shown")
	if err := build("/d/f"); err != nil || len(b.runner.ran) != 1 {
		t.Errorf("a file that the mount does not show ran the step: %q, %v", b.runner.ran, err)
	}
	b.write("d/f", "changed")
	if err := build("/d/f"); err != nil || len(b.runner.ran) != 2 {
		t.Errorf("a changed file did not run the step: %q, %v", b.runner.ran, err)
	}
	if err := build("/gone"); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error is %v", err)
	}
}

func TestMkdirAlwaysMakesALayer(t *testing.T) {
	b := newBench(t)
	var g solver.Graph
	dir := g.Add(solver.Node{Op: solver.Mkdir{Path: "/a/b"}, Inputs: []solver.ID{g.Add(solver.Node{Op: solver.Image{}})}})
	if r := b.mustSolve(&g); len(r.Layers) != 1 {
		t.Errorf("%d layers, want 1", len(r.Layers))
	}
	g.Add(solver.Node{Op: solver.Mkdir{Path: "/a"}, Inputs: []solver.ID{dir}})
	if r := b.mustSolve(&g); len(r.Layers) != 2 {
		t.Errorf("%d layers after a directory that exists, want 2", len(r.Layers))
	}
}
