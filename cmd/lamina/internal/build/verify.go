package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/progress"
	"lamina/snapshot/layer"
	"lamina/solver"
	"lamina/solver/local"
)

// verifyFlag is --verify-cache: empty, "true", or "times" where times count too.
type verifyFlag string

func (v *verifyFlag) String() string { return string(*v) }

func (v *verifyFlag) Set(s string) error {
	if on, err := strconv.ParseBool(s); err == nil {
		*v = ""
		if on {
			*v = "true"
		}
		return nil
	}
	if s != "times" {
		return fmt.Errorf("%q is not true, false or times", s)
	}
	*v = "times"
	return nil
}

// Type names the kind of value in help texts.
func (*verifyFlag) Type() string { return "what" }

// verification is what came of executing cached steps again.
type verification struct {
	mu     sync.Mutex
	steps  int
	differ []deviant
}

// deviant is a cached step that came out otherwise.
type deviant struct {
	node  solver.ID
	first layer.Difference
	files int // that differ
	err   error
}

// verify executes again, one after the other unless --jobs says otherwise, whatever was
// cached. A step that comes out otherwise, or fails, is no reason to stop: the
// error is that of a build that ends.
func (b *build) verify(ctx context.Context, w *local.Worker, found results, traces []solver.Trace) error {
	b.verified = &verification{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(max(1, b.opt.jobs))
	for _, t := range traces {
		if t.Verdict != solver.VerdictCached {
			continue
		}
		b.verified.steps++
		eg.Go(func() error {
			d, same := b.again(ctx, w, found, t)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !same {
				b.verified.add(d)
			}
			return nil
		})
	}
	return eg.Wait()
}

func (v *verification) add(d deviant) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.differ = append(v.differ, d)
}

// again executes one step again.
func (b *build) again(ctx context.Context, w *local.Worker, found results, t solver.Trace) (d deviant, same bool) {
	node := b.plan.Graph.Nodes[t.Node]
	a := local.Again{
		Task: solver.Task{Node: node}, Result: found[t.Node], Inputs: t.Inputs, Times: b.opt.verify == "times",
	}
	for _, in := range node.Inputs {
		a.Task.Inputs = append(a.Task.Inputs, found[in])
	}
	st := b.display.Begin("[verify] " + node.Name)
	d = deviant{node: t.Node}
	d.err = w.Again(ctx, a, st, func(diff layer.Difference) error {
		if d.files++; d.files == 1 {
			d.first = diff
		}
		return nil
	})
	if d.files > 0 {
		st.Say(d.what())
	}
	st.End(d.err)
	return d, d.files == 0 && d.err == nil
}

// what says in which way the step came out otherwise.
func (d deviant) what() string {
	var input *local.InputError
	switch {
	case errors.As(d.err, &input):
		return "could not be compared: " + d.err.Error()
	case d.err != nil:
		return "could not be executed again: " + d.err.Error()
	}
	text := path.Join("/", d.first.Path) + " " + d.first.What
	if d.files > 1 {
		text += fmt.Sprintf(" (and %d more)", d.files-1)
	}
	return text
}

// reachable are all nodes that the roots need, the roots included.
func reachable(g *solver.Graph, roots []solver.ID) []solver.ID {
	var all []solver.ID
	seen := map[solver.ID]bool{}
	var visit func(solver.ID)
	visit = func(id solver.ID) {
		if seen[id] {
			return
		}
		seen[id] = true
		for _, in := range g.Nodes[id].Inputs {
			visit(in)
		}
		all = append(all, id)
	}
	for _, id := range roots {
		visit(id)
	}
	return all
}

// tellVerified says, once the display is closed, what came of a verification. If
// anything came out otherwise, that is an error.
func (b *build) tellVerified() error {
	v := b.verified
	if v == nil {
		return nil
	}
	loud := !cli.OneOf(string(b.display.Mode), string(progress.Quiet), string(progress.RawJSON), string(progress.None))
	switch {
	case len(v.differ) == 0 && !loud:
		return nil
	case v.steps == 0:
		fmt.Fprintln(b.Stderr, "--verify-cache: no step was cached, so there was none to execute again")
		return nil
	case len(v.differ) == 0:
		fmt.Fprintf(b.Stderr, "--verify-cache: what was cached came out the same again: %s\n", count(v.steps, "step"))
		return nil
	}
	slices.SortFunc(v.differ, func(a, b deviant) int { return cmp.Compare(a.node, b.node) })
	var text strings.Builder
	for _, d := range v.differ {
		n := b.plan.Graph.Nodes[d.node]
		fmt.Fprintf(&text, " - line %d: %s\n     %s\n", n.Pos.First, printable(n.Name), printable(d.what()))
		if hint := b.unkeyed(n, d); hint != "" {
			fmt.Fprintf(&text, "     %s\n", printable(hint))
		}
	}
	fmt.Fprintf(b.Stderr, "\nCached steps that came out otherwise when they were executed again:\n%s", text.String())
	return fmt.Errorf("--verify-cache: %d of %s came out otherwise", len(v.differ), count(v.steps, "cached step"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// unkeyed says what a RUN depends on beyond its key, if it does.
func (b *build) unkeyed(n solver.Node, d deviant) string {
	op, ok := n.Op.(solver.Run)
	if !ok || errors.Is(d.err, fs.ErrNotExist) {
		return ""
	}
	var all []string
	for _, m := range op.Mounts {
		switch m.Type {
		case solver.MountCache:
			all = append(all, "the cache "+m.CacheID)
		case solver.MountSecret:
			all = append(all, "the secret "+m.SecretID)
		case solver.MountSSH:
			all = append(all, "the ssh agent "+m.SSHID)
		case solver.MountVolume:
			all = append(all, "the volume "+m.Source)
		}
	}
	if op.Network != "none" {
		all = append(all, "the network")
	}
	return "no key knows of " + strings.Join(append(all, "the time", "random numbers"), ", ")
}
