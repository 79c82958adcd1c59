package builds

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
	"lamina/solver"
)

func TestSteps(t *testing.T) {
	var g solver.Graph
	base := g.Add(solver.Node{Op: solver.Image{Digest: "sha256:base", Layers: []snapshot.Layer{{ID: "l"}}}, Name: "FROM base"})
	g.Add(solver.Node{Op: solver.Run{Args: []string{"unused"}}, Inputs: []solver.ID{base}})
	file := g.Add(solver.Node{Op: solver.HTTP{URL: "https://me:password@example.com/f", Name: "f"}, Name: "ADD f"})
	add := g.Add(solver.Node{
		Op:     solver.Copy{Dest: "/", Sources: []solver.CopySource{{Paths: []string{"f"}}}},
		Inputs: []solver.ID{base, file}, Name: "ADD f", Pos: solver.Pos{File: "Dockerfile", First: 3, Last: 3},
		Uses: []solver.Variable{{Name: "V", Value: "1", Arg: true, Line: 2}},
	})
	read := solver.Identity{Digest: digest.FromString("files")}
	got := Steps(&g, []solver.Trace{
		{Node: base, Verdict: solver.VerdictSource, Result: "sha256:base"},
		{Node: file, Verdict: solver.VerdictSource, Result: "sha256:file"},
		{
			Node: add, Verdict: solver.VerdictFailed, From: 2, Lost: true, Whole: "w", Narrow: "n", Took: time.Second,
			Inputs: []solver.RecordedInput{{ID: "sha256:base"}, {ID: "sha256:file", Read: read}}, Err: errors.New("disk full"),
		},
	}, func(url string) string { return strings.Replace(url, "password", "xxxxx", 1) })
	want := []Step{
		{Name: "FROM base", Kind: "image", Op: []byte(`{"digest":"sha256:base"}`), ID: "sha256:base", Verdict: solver.VerdictSource},
		{
			Name: "ADD f", Kind: "http", Op: []byte(`{"url":"https://me:xxxxx@example.com/f","name":"f"}`),
			ID: "sha256:file", Verdict: solver.VerdictSource,
		},
		{
			Name: "ADD f", Pos: solver.Pos{File: "Dockerfile", First: 3, Last: 3}, Kind: "copy",
			Op:      []byte(`{"sources":[{"paths":["f"]}],"dest":"/"}`),
			Uses:    []solver.Variable{{Name: "V", Value: "1", Arg: true, Line: 2}},
			Inputs:  []Input{{Step: 0, ID: "sha256:base"}, {Step: 1, ID: "sha256:file", Read: read}},
			Verdict: solver.VerdictFailed, From: 2, Lost: true, Whole: "w", Narrow: "n", Took: time.Second, Error: "disk full",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
