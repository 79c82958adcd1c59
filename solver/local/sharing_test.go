package local_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lamina/runner"
	"lamina/solver"
)

// duet is two builds that use one cache at once: the first holds it until the
// second has come as far as it can.
type duet struct {
	*bench
	arrived chan string // the directory that a step was given
	release chan struct{}
	printed chan string
}

func newDuet(t *testing.T) *duet {
	d := &duet{newBench(t), make(chan string), make(chan struct{}), make(chan string, 16)}
	d.runner.do["use"] = func(s runner.Spec, _ io.Writer) error {
		d.arrived <- s.Mounts[0].Source
		<-d.release
		return nil
	}
	return d
}

// start builds a step that nobody has built before.
func (d *duet) start(wg *sync.WaitGroup, name string, m solver.RunMount) {
	var g solver.Graph
	run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{Args: []string{"use", name}, Mounts: []solver.RunMount{m}})
	wg.Go(func() {
		_, err := solver.Solve(d.Context(), &g, []solver.ID{1}, d.worker, solver.Options{
			Index: d.store.Index(), Lock: d.store.Lock,
			Events: func(e solver.Event) {
				if e.Status == solver.OutputWritten {
					d.printed <- string(e.Log)
				}
			},
		})
		if err != nil {
			d.Error(err)
		}
	})
}

func TestSharing(t *testing.T) {
	cache := func(sharing string) solver.RunMount {
		return solver.RunMount{Type: solver.MountCache, Target: "/c", CacheID: "id", Sharing: sharing}
	}
	t.Run("shared", func(t *testing.T) {
		d := newDuet(t)
		var wg sync.WaitGroup
		d.start(&wg, "a", cache("shared"))
		d.start(&wg, "b", cache("shared"))
		if a, b := <-d.arrived, <-d.arrived; a != b {
			t.Errorf("two steps have %s and %s", a, b)
		}
		close(d.release)
		wg.Wait()
	})
	t.Run("private", func(t *testing.T) {
		d := newDuet(t)
		var wg sync.WaitGroup
		d.start(&wg, "a", cache("private"))
		d.start(&wg, "b", cache("private"))
		a, b := <-d.arrived, <-d.arrived
		if a == b {
			t.Errorf("two steps share %s", a)
		}
		close(d.release)
		wg.Wait()
		d.release = make(chan struct{})
		d.start(&wg, "c", cache("private"))
		if c := <-d.arrived; c != a && c != b {
			t.Errorf("%s is new, though %s and %s were free", c, a, b)
		}
		close(d.release)
		wg.Wait()
	})
	t.Run("locked", func(t *testing.T) {
		d := newDuet(t)
		var wg sync.WaitGroup
		d.start(&wg, "a", cache("locked"))
		a := <-d.arrived
		d.start(&wg, "b", cache("locked"))
		if said := <-d.printed; said != "waiting for cache id, which another step has locked\n" {
			t.Errorf("the second step says %q", said)
		}
		select {
		case <-d.arrived:
			t.Error("the second step did not wait")
		default:
		}
		d.release <- struct{}{}
		if b := <-d.arrived; b != a {
			t.Errorf("two steps have %s and %s", a, b)
		}
		d.release <- struct{}{}
		wg.Wait()
	})
}

// Two steps that lock the same two caches in different order do not wait for each
// other for ever.
func TestLockedInAnyOrder(t *testing.T) {
	b := newBench(t)
	b.runner.do["use"] = func(runner.Spec, io.Writer) error { return nil }
	lock := func(id string) solver.RunMount {
		return solver.RunMount{Type: solver.MountCache, Target: "/" + id, CacheID: id, Sharing: "locked"}
	}
	var wg sync.WaitGroup
	for _, mounts := range [][]solver.RunMount{{lock("x"), lock("y")}, {lock("y"), lock("x")}, {lock("x"), lock("x")}} {
		wg.Go(func() {
			for i := range 10 {
				var g solver.Graph
				run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{
					Args: []string{"use", strings.Repeat("i", i), mounts[0].CacheID, mounts[1].CacheID}, Mounts: mounts,
				})
				if _, err := b.solve(&g); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A part of a cache is mounted, and links in it lead nowhere else.
func TestPartOfCache(t *testing.T) {
	b := newBench(t)
	var seen runner.Spec
	b.runner.do["fill"] = func(s runner.Spec, _ io.Writer) error {
		return fill(s.Mounts[0].Source)
	}
	b.runner.do["use"] = func(s runner.Spec, _ io.Writer) error {
		seen = s
		return nil
	}
	use := func(command, source string) error {
		var g solver.Graph
		run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{Args: []string{command, source}, Mounts: []solver.RunMount{
			{Type: solver.MountCache, Target: "/c", CacheID: "id", Source: source},
		}})
		_, err := b.solve(&g)
		return err
	}
	if err := use("fill", ""); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{"/sub": "/sub", "/link/deep": "/sub/deep", "/up": "/sub"} {
		if err := use("use", source); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimPrefix(seen.Mounts[0].Source, "mount0:"); filepath.Clean(got) != want {
			t.Errorf("%s shows %s, want %s", source, got, want)
		}
	}
	for _, source := range []string{"/none", "/out"} {
		if err := use("use", source); err == nil || !strings.Contains(err.Error(), "there is no "+source+" in what it is mounted from") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// fill makes a directory, and links to it and to elsewhere.
func fill(dir string) error {
	err := os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755)
	for link, to := range map[string]string{"link": "sub", "up": "../../../sub", "out": "/etc"} {
		err = errors.Join(err, os.Symlink(to, filepath.Join(dir, link)))
	}
	return err
}
