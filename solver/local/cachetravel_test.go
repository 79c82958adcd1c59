package local_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/mounts"
	"lamina/runner"
	"lamina/solver"
	"lamina/solver/local"
)

// bundled is the blobs of a cache mount that another machine packed.
type bundled struct {
	cache.Blobs
	*mounts.Bundle
}

func (b bundled) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return b.Bundle.Has(d), nil
}

func (b bundled) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return b.Bundle.Open(d)
}

// gone is blobs that were lost.
type gone struct{ cache.Blobs }

func (gone) Open(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

// packed is the cache "id" of another machine, with one file.
func packed(t *testing.T) *mounts.Bundle {
	t.Helper()
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	all, spec := mounts.In(store), mounts.Spec{ID: "id"}
	err = all.Make(spec.Name(), spec, func(data string) error {
		return errors.Join(os.Mkdir(data, 0o755), os.WriteFile(filepath.Join(data, "carried"), []byte("carried"), 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := all.Pack(t.Context(), spec.Name(), spec, mounts.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// A step that is executed finds the caches that other machines left, a cached one
// does not ask for them, and one whose cache is lost begins without.
func TestCachesFromElsewhere(t *testing.T) {
	from := packed(t)
	for _, tc := range []struct {
		name  string
		blobs cache.Blobs
		want  []string // files of the cache
		says  string
	}{
		{"there", bundled{Bundle: from}, []string{"carried"}, "cache id comes from there: 1 files, 0.0 MB\n"},
		{"lost", gone{}, nil, "cache id cannot be had from there: file does not exist\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			asked := 0
			b.worker.Caches = func(spec mounts.Spec) []mounts.Offer {
				asked++
				if spec.Name() != from.Version.Spec.Name() {
					t.Errorf("asked for %+v", spec)
				}
				return []mounts.Offer{{Version: from.Version, Blobs: tc.blobs, Place: "there"}}
			}
			var files []string
			b.runner.do["use"] = func(s runner.Spec, _ io.Writer) error {
				entries, err := os.ReadDir(s.Mounts[0].Source)
				for _, e := range entries {
					files = append(files, e.Name())
				}
				return err
			}
			var said strings.Builder
			build := func() {
				t.Helper()
				var g solver.Graph
				run(&g, g.Add(solver.Node{Op: solver.Image{}}), solver.Run{Args: []string{"use"}, Mounts: []solver.RunMount{
					{Type: solver.MountCache, Target: "/c", CacheID: "id"},
				}})
				_, err := solver.Solve(t.Context(), &g, []solver.ID{1}, b.worker, solver.Options{
					Index: b.store.Index(), Lock: b.store.Lock,
					Events: func(e solver.Event) {
						if e.Status == solver.OutputWritten {
							said.Write(e.Log)
						}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			build()
			build()
			if asked != 1 || !slices.Equal(files, tc.want) || !strings.HasSuffix(said.String(), tc.says) {
				t.Errorf("asked %d times, files %q, said %q", asked, files, said.String())
			}
		})
	}
}

// Caches of a container are those of steps, and given back when it ends.
func TestMountCaches(t *testing.T) {
	b := newBench(t)
	all := []solver.RunMount{{Type: solver.MountCache, Target: "/c", CacheID: "id", Sharing: "locked"}}
	var spec runner.Spec
	release, err := b.worker.MountCaches(t.Context(), &spec, all, "a test", nil)
	if err != nil {
		t.Fatal(err)
	}
	caches := mounts.In(b.store)
	name := mounts.Spec{ID: "id"}.Name()
	if len(spec.Mounts) != 1 || spec.Mounts[0].Source != caches.Data(name) || spec.Mounts[0].Target != "/c" {
		t.Errorf("mounts are %+v", spec.Mounts)
	}
	if _, free, err := b.store.TryLock("mount " + name); free || err != nil {
		t.Errorf("a step could have it at the same time: %v", err)
	}
	if _, err := caches.Alone(t.Context(), name, false); !errors.Is(err, mounts.ErrInUse) {
		t.Errorf("it could be removed: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	alone, err := caches.Alone(t.Context(), name, false)
	if err != nil {
		t.Fatalf("it is not given back: %v", err)
	}
	alone()
	unlock, free, err := b.store.TryLock("mount " + name)
	if !free || err != nil {
		t.Fatalf("its lock is not given back: %v", err)
	}
	unlock()
	infos, err := caches.List(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Step != "a test" || infos[0].Sharing != "locked" {
		t.Errorf("it is listed as %+v, %v", infos, err)
	}
}

// Records tell which caches their steps mount.
func TestCachesOf(t *testing.T) {
	b := newBench(t)
	b.runner.do["use"] = func(runner.Spec, io.Writer) error { return nil }
	b.write("seed/a", "x")
	var g solver.Graph
	scratch := g.Add(solver.Node{Op: solver.Image{}})
	seed := copyContext(&g, scratch, "/", ".")
	mode := uint32(0o700)
	run(&g, scratch, solver.Run{Args: []string{"use"}, Mounts: []solver.RunMount{
		{Type: solver.MountCache, Target: "/a", CacheID: "a", Mode: &mode},
		{Type: solver.MountCache, Target: "/b", CacheID: "b", Input: 1, Source: "/seed"},
		{Type: solver.MountTmpfs, Target: "/c"},
	}}, seed)
	var names []string
	_, err := solver.Solve(t.Context(), &g, []solver.ID{solver.ID(len(g.Nodes) - 1)}, b.worker, solver.Options{
		Index: b.store.Index(), Lock: b.store.Lock,
		Solved: func(s solver.Solved) {
			for _, spec := range local.CachesOf(s.Record) {
				names = append(names, spec.Name())
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadDir(b.store.Path("mounts"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range made {
		want = append(want, m.Name())
	}
	slices.Sort(names)
	if len(want) != 2 || !slices.Equal(names, want) {
		t.Errorf("the record tells %q, made were %q", names, want)
	}
}
