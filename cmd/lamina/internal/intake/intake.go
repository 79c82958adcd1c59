// Package intake tells what a build takes from its contexts: which files each COPY,
// ADD and bind mount takes, what the ignore file keeps away and by which rule, and
// what nobody takes. It reads directories, and no file in them.
package intake

import (
	"context"
	"slices"
	"strings"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// Request is what a report is to be about.
type Request struct {
	Graph *solver.Graph
	// Roots are the nodes that are built; what no root needs is not counted.
	Roots    []solver.ID
	Contexts []Context
	// Dockerfile is the path or URL of the Dockerfile, "-" for standard input, and
	// Inside its path in the build context, if it lies there.
	Dockerfile, Inside string
	// Explain are the paths in the contexts that are asked about.
	Explain []string
}

// Context is a tree that the build can take files from.
type Context struct {
	// Name is what Local operations call it, Label what people do: the name that
	// --build-context gave it, or nothing for the build context.
	Name, Label string
	// Source is the directory or URL that it was opened from.
	Source string
	// Tree has all its files, also those that Rules exclude.
	Tree  snapshot.Tree
	Rules fileset.Rules
	// IgnoreFile is what Rules were read from, empty if there was none, and IgnorePath
	// its path in Tree, empty if it is not in there.
	IgnoreFile, IgnorePath string
	// Remote says that it is no directory of this machine, and that no ignore file
	// counts.
	Remote bool
	// Beside is a directory that the Dockerfile lies in, if that is not in the context.
	Beside string
}

// Make reports what the request is about. A source that is wrong is told in its
// copy's Error; the error is that of a tree that cannot be read, or ctx's.
func Make(ctx context.Context, r Request) (*Report, error) {
	report := &Report{Dockerfile: r.Dockerfile}
	for _, c := range r.Contexts {
		s, err := newSurvey(ctx, r, c)
		if err != nil {
			return nil, err
		}
		told, err := s.make(ctx)
		if err != nil {
			return nil, err
		}
		report.Contexts = append(report.Contexts, *told)
	}
	return report, nil
}

// survey is the work on one context.
type survey struct {
	Context
	request Request
	report  *Tree
	owner   []int // of each selection: its position in report.Copies
	*fileset.Surveyor
}

func newSurvey(ctx context.Context, r Request, c Context) (*survey, error) {
	s := &survey{Context: c, request: r, report: &Tree{Name: c.Label, Source: c.Source, IgnoreFile: c.IgnoreFile}}
	shown, err := fileset.Ignore(c.Tree, c.Rules)
	if err != nil {
		return nil, err
	}
	var all []*fileset.Selection
	for i, rd := range readers(r.Graph, r.Roots, c.Name) {
		s.report.Copies = append(s.report.Copies, Copy{Line: rd.pos.First, Text: rd.text, Mount: rd.mount})
		for _, q := range rd.queries {
			sel, err := fileset.Select(ctx, shown, q)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				s.report.Copies[i].Error = err.Error()
				continue
			}
			s.owner, all = append(s.owner, i), append(all, sel)
		}
	}
	s.Surveyor, err = fileset.NewSurveyor(c.Tree, c.Rules, all)
	return s, err
}

// make walks the context once.
func (s *survey) make(ctx context.Context) (*Tree, error) {
	t := s.report
	for _, r := range s.Rules {
		t.Rules = append(t.Rules, RuleUse{Rule: ruleOf(r)})
	}
	for _, name := range s.request.Explain {
		t.Paths = append(t.Paths, s.explain(name))
	}
	c := counter{survey: s, ignores: ignores{survey: s}}
	if err := s.Walk(ctx, c.count); err != nil {
		return nil, err
	}
	for _, i := range s.Unmatched() {
		t.Rules[i].Unmatched = true
	}
	t.Files, t.Directories, t.Unread = c.files.kept, c.directories.all(), c.ignores.unread()
	return t, nil
}

// counter counts what a walk meets.
type counter struct {
	*survey
	files       largest
	directories directories
	ignores     ignores
}

func (c *counter) count(f fileset.Found) error {
	t := c.report
	if f.Err != nil {
		t.Unreadable = append(t.Unreadable, f.Name)
		return nil
	}
	takers := c.takers(f.Taken)
	c.ignores.see(f)
	c.directories.add(f, takers)
	if f.Entry.Kind == snapshot.Dir {
		return nil
	}
	if f.Ruling.By >= 0 {
		t.Rules[f.Ruling.By].add(f.Entry)
	}
	t.Share.add(f, takers)
	for i := range t.Paths {
		if p := &t.Paths[i]; p.holds(f.Name) {
			p.Share.add(f, takers)
			p.Copies = union(p.Copies, takers)
		}
	}
	if f.Ruling.Excluded {
		return nil
	}
	for _, i := range takers {
		t.Copies[i].add(f.Entry)
	}
	c.files.offer(Large{Path: f.Name, Amount: amountOf(f.Entry), Copies: union(nil, takers)})
	return nil
}

// union adds to all, which is sorted, what more has.
func union(all, more []int) []int {
	for _, i := range more {
		if at, found := slices.BinarySearch(all, i); !found {
			all = slices.Insert(all, at, i)
		}
	}
	return all
}

// takers are the copies that these selections belong to, each once.
func (s *survey) takers(selections []int) []int {
	var all []int
	for _, i := range selections {
		if o := s.owner[i]; !slices.Contains(all, o) {
			all = append(all, o)
		}
	}
	return all
}

// reader is an instruction that reads a context.
type reader struct {
	pos     solver.Pos
	text    string
	mount   bool
	queries []fileset.Query
}

// readers are the instructions that the roots need and that read the directory
// called name, in the order of the Dockerfile. One that is there for several
// platforms is told once.
func readers(g *solver.Graph, roots []solver.ID, name string) []reader {
	var all []reader
	seen := map[solver.ID]bool{}
	var visit func(solver.ID)
	visit = func(id solver.ID) {
		if seen[id] {
			return
		}
		seen[id] = true
		n := g.Nodes[id]
		for _, in := range n.Inputs {
			visit(in)
		}
		if op, ok := n.Op.(solver.Copy); ok {
			if r := readerOf(g, n, op, name); len(r.queries) > 0 && !slices.ContainsFunc(all, r.same) {
				all = append(all, r)
			}
		}
	}
	for _, id := range roots {
		visit(id)
	}
	slices.SortStableFunc(all, func(a, b reader) int { return a.pos.First - b.pos.First })
	return all
}

func readerOf(g *solver.Graph, n solver.Node, op solver.Copy, name string) reader {
	r := reader{pos: n.Pos}
	r.text, r.mount = label(n.Name)
	for i, src := range op.Sources {
		if from, ok := g.Nodes[n.Inputs[i+1]].Op.(solver.Local); ok && from.Name == name {
			r.queries = append(r.queries, fileset.Query{Paths: src.Paths, Parents: src.Parents, Exclude: src.Exclude})
		}
	}
	return r
}

func (r reader) same(other reader) bool {
	return r.pos == other.pos && slices.EqualFunc(r.queries, other.queries, func(a, b fileset.Query) bool {
		return a.Parents == b.Parents && slices.Equal(a.Paths, b.Paths) && slices.Equal(a.Exclude, b.Exclude)
	})
}

// label is what a node is called without the part in brackets, and whether that
// says that it is for a mount.
func label(name string) (text string, mount bool) {
	head, rest, ok := strings.Cut(name, "] ")
	if !ok || !strings.HasPrefix(head, "[") {
		return name, false
	}
	if what, ok := strings.CutPrefix(rest, "mount "); ok && head == "[internal" {
		return "bind mount of " + strings.TrimSuffix(what, " of the build context"), true
	}
	return rest, false
}
