package intake

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot/fileset"
	"lamina/solver"
)

// tree has these files, each of as many bytes as its name says after "=".
func tree(t *testing.T, names ...string) Context {
	t.Helper()
	c := Context{Name: "context", Source: ".", Remote: true}
	var files []fileset.MemoryFile
	for _, n := range names {
		name, size, _ := strings.Cut(n, "=")
		var bytes int
		if _, err := fmt.Sscan(size, &bytes); err != nil {
			t.Fatal(err)
		}
		files = append(files, fileset.MemoryFile{Name: name, Data: make([]byte, bytes)})
	}
	c.Tree = fileset.Memory(files...)
	return c
}

// copies is a graph of one COPY for each query, all of which are needed.
func copies(queries ...fileset.Query) Request {
	g := &solver.Graph{}
	files := g.Add(solver.Node{Op: solver.Local{Name: "context"}})
	root := g.Add(solver.Node{Op: solver.Image{}})
	for i, q := range queries {
		root = g.Add(solver.Node{
			Op: solver.Copy{
				Sources: []solver.CopySource{{Paths: q.Paths, Exclude: q.Exclude, Parents: q.Parents}}, Dest: fmt.Sprintf("/%d", i),
			},
			Inputs: []solver.ID{root, files}, Pos: solver.Pos{First: i + 1}, Name: "[1/9] COPY " + strings.Join(q.Paths, " "),
		})
	}
	return Request{Graph: g, Roots: []solver.ID{root}}
}

func make1(t *testing.T, r Request, c Context) Tree {
	t.Helper()
	r.Contexts = []Context{c}
	report, err := Make(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return report.Contexts[0]
}

// TestLargest: the ten largest, whatever the order in which they come, and of
// directories those that say more than one directory in them.
func TestLargest(t *testing.T) {
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("many/%d=%d", i*7%30, 1+i*7%30))
	}
	names = append(names, "deep/er/est/a=900", "deep/er/est/b=900", "deep/er/c=10", "empty/x=0")
	got := make1(t, copies(fileset.Query{Paths: []string{"many"}}, fileset.Query{Paths: []string{"deep/er", "many/29"}}), tree(t, names...))
	var files, dirs []string
	for _, l := range got.Files {
		files = append(files, fmt.Sprint(l.Path, " ", l.Bytes, " ", l.Copies))
	}
	for _, l := range got.Directories {
		dirs = append(dirs, fmt.Sprint(l.Path, " ", l.Bytes, " ", l.Files, " ", l.Copies))
	}
	if diff := cmp.Diff([]string{
		"deep/er/est/a 900 [1]", "deep/er/est/b 900 [1]", "many/29 30 [0 1]", "many/28 29 [0]", "many/27 28 [0]", "many/26 27 [0]",
		"many/25 26 [0]", "many/24 25 [0]", "many/23 24 [0]", "many/22 23 [0]",
	}, files); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"deep/er/est 1800 2 [1]", "many 465 30 [0 1]"}, dirs); diff != "" {
		t.Error(diff)
	}
}

// TestNeeded: only what a root needs takes anything, what several platforms share is
// told once, and one copy counts a file once.
func TestNeeded(t *testing.T) {
	r := copies(fileset.Query{Paths: []string{"a", "a", "."}}, fileset.Query{Paths: []string{"b"}})
	g := r.Graph
	other := g.Add(solver.Node{ // the same line on another base
		Op:     solver.Copy{Sources: []solver.CopySource{{Paths: []string{"b"}}}, Dest: "/1"},
		Inputs: []solver.ID{1, 0}, Pos: solver.Pos{First: 2}, Name: "[1/9] COPY b",
	})
	g.Add(solver.Node{
		Op:     solver.Copy{Sources: []solver.CopySource{{Paths: []string{"c"}}}, Dest: "/"},
		Inputs: []solver.ID{1, 0}, Pos: solver.Pos{First: 9}, Name: "COPY c",
	})
	r.Roots = append(r.Roots, other)
	got := make1(t, r, tree(t, "a=1", "b=2", "c=4"))
	want := []Copy{
		{Line: 1, Text: "COPY a a .", Amount: Amount{Files: 3, Bytes: 7}},
		{Line: 2, Text: "COPY b", Amount: Amount{Files: 1, Bytes: 2}},
	}
	if diff := cmp.Diff(want, got.Copies); diff != "" {
		t.Error(diff)
	}
}

func TestIgnoresNotRead(t *testing.T) {
	names := []string{
		".dockerignore=0", ".containerignore=0", "sub/.dockerignore=0", "sub/Dockerfile=0", "sub/Dockerfile.dockerignore=0",
		"none.dockerignore=0", "hidden/.dockerignore=0", ".gitignore=0", "x/.gitignore=0", "dockerignore=0",
	}
	for _, test := range []struct {
		about  string
		change func(*Request, *Context)
		want   []string
	}{
		{"the usual one is read", func(_ *Request, c *Context) { c.IgnoreFile, c.IgnorePath = ".containerignore", ".containerignore" }, []string{
			".dockerignore: .containerignore is read instead",
			"dockerignore: it would have to be called .dockerignore",
			"none.dockerignore: there is no none beside it",
			"sub/.dockerignore: it counts in the root of the context only",
			"sub/Dockerfile.dockerignore: it is for builds with --file sub/Dockerfile",
		}},
		{"that of a Dockerfile is", func(r *Request, c *Context) {
			r.Inside, c.IgnoreFile, c.IgnorePath = "sub/Dockerfile", "p/sub/Dockerfile.dockerignore", "sub/Dockerfile.dockerignore"
		}, []string{
			".containerignore: p/sub/Dockerfile.dockerignore is read instead",
			".dockerignore: p/sub/Dockerfile.dockerignore is read instead",
			"dockerignore: it would have to be called .dockerignore",
			"none.dockerignore: there is no none beside it",
			"sub/.dockerignore: it counts in the root of the context only; beside the Dockerfile it would have to be called Dockerfile.dockerignore",
		}},
		{"none is in what is remote", func(_ *Request, c *Context) { c.Remote = true }, []string{
			".containerignore: no ignore file counts in a context that is not a directory of this machine",
			".dockerignore: no ignore file counts in a context that is not a directory of this machine",
			"none.dockerignore: it counts for a build of this directory only",
			"sub/.dockerignore: no ignore file counts in a context that is not a directory of this machine",
			"sub/Dockerfile.dockerignore: it counts for a build of this directory only",
		}},
	} {
		r, c := copies(), tree(t, names...)
		c.Remote = false
		var err error
		if c.Rules, err = fileset.ReadIgnore(".dockerignore", strings.NewReader("hidden")); err != nil {
			t.Fatal(err)
		}
		test.change(&r, &c)
		var got []string
		for _, u := range make1(t, r, c).Unread {
			got = append(got, u.Path+": "+u.Why)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.about, diff)
		}
	}
}

// TestNames: nothing that a name says reaches a terminal.
func TestNames(t *testing.T) {
	c := tree(t, "a\x1b[2J\n=3", "b=2")
	r := copies(fileset.Query{Paths: []string{"."}})
	r.Contexts = []Context{c}
	for _, explain := range [][]string{nil, {"a\x1b[2J\n", "b\x1b"}} {
		r.Explain = explain
		report, err := Make(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := report.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b") || !strings.Contains(b.String(), `"a\x1b[2J\n"`) {
			t.Errorf("the report is %q", b.String())
		}
	}
}
