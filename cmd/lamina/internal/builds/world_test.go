package builds

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/solver"
)

// openStore opens the store in dir.
func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	store, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return In(store)
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// sample is a build with something of everything.
func sample() *Build {
	parts := []ocispec.Descriptor{{MediaType: "files", Digest: digest.FromString("files"), Size: 5}}
	return &Build{
		Version: documentVersion, ID: "576e2000", Started: noon, Ended: noon.Add(75 * time.Second), Status: Failed,
		Error:   "Dockerfile:9: [build 3/3] RUN make: exit code 2",
		Context: "/home/me/app", Dockerfile: "/home/me/app/Dockerfile", Targets: []string{"release"}, Platforms: []string{"linux/amd64"},
		Names: []string{"docker.io/library/app:1.0"},
		Args:  map[string]string{"VERSION": "1.0", "DEBUG": ""},
		Caches: []Cache{
			{Name: "r.example.com/app:main", Error: "there is no cache in r.example.com/app:main yet"},
			{Name: "r.example.com/app:cache", Steps: 12},
		},
		Images: []Image{{Digest: digest.FromString("manifest"), ID: digest.FromString("config"), Names: []string{"docker.io/library/app:1.0"}}},
		Steps: []Step{
			{Name: "FROM debian", Pos: pos(1), Kind: "image", Op: json.RawMessage(`{}`), Verdict: solver.VerdictSource},
			{Name: "[internal] load build context", Kind: "local", Op: json.RawMessage(`{"name":"context"}`), Verdict: solver.VerdictSource},
			{
				Name: "[build 1/3] RUN apt-get update", Pos: pos(3), Kind: "run", Op: json.RawMessage(`{}`), Inputs: []Input{{Step: 0}},
				Verdict: solver.VerdictCached, From: 2, ID: digest.FromString("update"), Started: noon.Add(time.Second), Took: 30 * time.Second,
			},
			{
				Name: "[build 2/3] COPY . .", Pos: pos(5), Kind: "copy", Op: json.RawMessage(`{}`),
				Inputs:  []Input{{Step: 2}, {Step: 1, Read: solver.Identity{Digest: digest.FromString("read"), Parts: parts}}},
				Verdict: solver.VerdictExecuted, Started: noon.Add(2 * time.Second), Took: 150 * time.Millisecond,
			},
			{
				Name: "[build 3/3] RUN make && make install", Pos: pos(9), Kind: "run",
				Op: json.RawMessage(`{"args":["/bin/sh","-c","make && make install"]}`), Inputs: []Input{{Step: 3}},
				Verdict: solver.VerdictFailed, Error: "exit code 2", Started: noon.Add(3 * time.Second), Took: 70 * time.Second, Log: 2048,
			},
			{Name: "[stage-1 1/1] COPY --from=build /app /", Pos: pos(11), Kind: "copy", Op: json.RawMessage(`{}`), Verdict: solver.VerdictUnneeded},
		},
		Phases: []Phase{{
			Name: "[internal] load metadata for docker.io/library/debian", Started: noon, Took: 400 * time.Millisecond, Status: Succeeded,
		}},
		Warnings: []string{"there is no cache in r.example.com/app:main yet"},
	}
}

func pos(line int) solver.Pos { return solver.Pos{File: "Dockerfile", First: line, Last: line} }

// graph is one in which the context is copied onto a base, and two processes run; the
// last node is of no use.
func graph() (g *solver.Graph, roots []solver.ID) {
	g = &solver.Graph{}
	base := g.Add(solver.Node{Op: solver.Image{}, Name: "FROM scratch"})
	g.Add(solver.Node{Op: solver.Run{Args: []string{"unused"}}, Inputs: []solver.ID{base}, Name: "RUN unused"})
	files := g.Add(solver.Node{Op: solver.Local{Name: "context"}, Name: "context"})
	copied := g.Add(solver.Node{Op: solver.Copy{Dest: "/", Sources: []solver.CopySource{{Paths: []string{"."}}}}, Inputs: []solver.ID{base, files}, Name: "[1/3] COPY . /"})
	one := g.Add(solver.Node{Op: solver.Run{Args: []string{"one"}}, Inputs: []solver.ID{copied}, Name: "[2/3] RUN one"})
	two := g.Add(solver.Node{Op: solver.Run{Args: []string{"two"}}, Inputs: []solver.ID{one}, Name: "[3/3] RUN two"})
	return g, []solver.ID{two}
}

// The nodes of graph.
const (
	nodeCopy = solver.ID(3)
	nodeOne  = solver.ID(4)
	nodeTwo  = solver.ID(5)
)

func as(s string) string { return s }

// begin begins to record a build of graph.
func begin(t testing.TB, s *Store, b Build) *Recording {
	t.Helper()
	r, err := s.Begin(b)
	if err != nil {
		t.Fatal(err)
	}
	g, roots := graph()
	r.Solving(g, roots, as)
	return r
}

// built records a build that ended so.
func built(t testing.TB, s *Store, b Build, status Status) string {
	t.Helper()
	r := begin(t, s, b)
	var err error
	if status != Succeeded {
		err = errors.New("it went wrong")
	}
	if err := r.End(status, err, b.Images); err != nil {
		t.Fatal(err)
	}
	return r.ID()
}

// abandon leaves r as a process does that is killed.
func abandon(r *Recording) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.log.close()
	r.doc.Close()
}

func get(t testing.TB, s *Store, id string) *Build {
	t.Helper()
	b, err := s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
