package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/runner"
	"lamina/snapshot/layer"
	"lamina/solver"
	"lamina/solver/local"
)

// printed is what an operation prints.
type printed struct{ bytes.Buffer }

func (*printed) Progress(string, int64, int64) {}

// TestAgain executes steps once more: what came out otherwise is told, and nothing of
// it is left, whatever became of it.
func TestAgain(t *testing.T) {
	b := newBench(t)
	n := 0
	b.runner.do["count"] = func(s runner.Spec, out io.Writer) error {
		n++
		fmt.Fprintln(out, "counted")
		return os.WriteFile(filepath.Join(root(s), "n"), []byte(fmt.Sprint(n)), 0o644)
	}
	b.runner.do["same"] = func(s runner.Spec, _ io.Writer) error {
		return os.WriteFile(filepath.Join(root(s), "same"), []byte("same"), 0o644)
	}
	b.runner.do["once"] = func(s runner.Spec, _ io.Writer) error {
		if n++; n > 1 {
			return errors.New("no more")
		}
		return nil
	}
	b.write("a", "1")
	for _, test := range []struct {
		about, op string
		change    func()
		want      []string
		err       string
	}{
		{about: "the same", op: "same"},
		{about: "another result", op: "count", want: []string{"n: has other content, from byte 0 on"}},
		{about: "a failure", op: "once", err: "no more"},
		{about: "other input", op: "same", change: func() { b.write("a", "2") }, err: `"files" is not what it was when the result was made`},
	} {
		t.Run(test.about, func(t *testing.T) {
			n = 0
			b.write("a", "1")
			g := &solver.Graph{}
			files := g.Add(solver.Node{Op: solver.Local{Name: "context"}, Name: "files"})
			base := g.Add(solver.Node{Op: solver.Image{}})
			copied := g.Add(solver.Node{
				Op:     solver.Copy{Sources: []solver.CopySource{{Paths: []string{"a"}}}, Dest: "/copied/" + test.op + "/"},
				Inputs: []solver.ID{base, files},
			})
			ran := run(g, copied, solver.Run{Args: []string{test.op}})
			var traces []solver.Trace
			results, err := solver.Solve(t.Context(), g, []solver.ID{files, base, copied, ran}, b.worker, solver.Options{
				Index: b.store.Index(), Lock: b.store.Lock, Traced: func(all []solver.Trace) { traces = all },
			})
			if err != nil {
				t.Fatal(err)
			}
			before := b.layers(t)
			if test.change != nil {
				test.change()
			}
			var got []string
			var errs error
			out := &printed{}
			for _, id := range []solver.ID{copied, ran} {
				a := local.Again{Task: solver.Task{Node: g.Nodes[id]}, Result: results[id], Inputs: traces[id].Inputs}
				for _, in := range g.Nodes[id].Inputs {
					a.Task.Inputs = append(a.Task.Inputs, results[in])
				}
				err := b.worker.Again(t.Context(), a, out, func(d layer.Difference) error {
					got = append(got, d.String())
					return nil
				})
				errs = errors.Join(errs, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if text := fmt.Sprint(errs); text != test.err && (errs != nil || test.err != "") {
				t.Errorf("error %q, want %q", text, test.err)
			}
			if diff := cmp.Diff(before, b.layers(t)); diff != "" {
				t.Errorf("other layers are there than before: %s", diff)
			}
			if test.op == "count" && !bytes.Contains(out.Bytes(), []byte("counted")) {
				t.Error("what was printed is lost")
			}
			// What is remembered is what it was.
			was := b.read(results[ran], "copied/"+test.op+"/a")
			again := b.mustSolve(g)
			if again.ID != results[ran].ID && test.change == nil || was != "1" {
				t.Errorf("the result is another: %v", again.ID)
			}
		})
	}
}

func (b *bench) layers(t *testing.T) []string {
	t.Helper()
	all, err := b.pool.List()
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(all))
	for i, id := range all {
		names[i] = string(id)
	}
	return names
}
