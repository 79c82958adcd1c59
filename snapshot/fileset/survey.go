package fileset

import (
	"context"
	"path"
	"strings"

	"lamina/snapshot"
)

// Found is a file or directory of a tree, as a [Surveyor] meets it.
type Found struct {
	Name   string
	Entry  snapshot.Entry
	Ruling Ruling
	// Taken are the positions of the selections that take it, in order, and LeftOut
	// those that would but for their own patterns (--exclude, --parents).
	Taken, LeftOut []int
	// Err is why a directory could not be read.
	Err error
}

// A Surveyor tells of the files of a tree which rules exclude them and which
// selections take them. It reads directories, never a file, and remembers no more
// than the way to where it is: a tree of a million files costs it time only.
type Surveyor struct {
	tree  snapshot.Tree
	judge *judge
	roots map[string][]root // by what they are called in the tree
}

// root is what a selection names.
type root struct {
	selection int
	filter    *filter
}

// taking is a selection that takes from where the survey is.
type taking struct {
	selection int
	filter    *filter
	top       string // the selected directory
	judgement judgement
}

// place is a directory on the way, "." first.
type place struct {
	name    string
	ruling  Ruling
	takings []taking
}

// NewSurveyor returns one of t, a tree with all its files, of rules about it, and of
// selections of what they leave of it. It is not safe for concurrent use.
func NewSurveyor(t snapshot.Tree, rules Rules, selections []*Selection) (*Surveyor, error) {
	j, err := newJudge(rules)
	if err != nil {
		return nil, err
	}
	s := &Surveyor{tree: t, judge: j, roots: map[string][]root{}}
	for i, sel := range selections {
		for _, m := range sel.matches {
			s.roots[m.name] = append(s.roots[m.name], root{i, m.filter})
		}
	}
	return s, nil
}

// Walk calls fn for everything in the tree: a directory before what is in it, and
// that sorted by name.
func (s *Surveyor) Walk(ctx context.Context, fn func(Found) error) error {
	top, _, err := s.top()
	if err != nil {
		return err
	}
	return s.walk(ctx, top, func(err error) error { return err }, fn)
}

// walk walks what is in dir; unreadable is told why that cannot be.
func (s *Surveyor) walk(ctx context.Context, dir place, unreadable func(error) error, fn func(Found) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	entries, err := s.tree.ReadDir(dir.name)
	if err != nil {
		return unreadable(err)
	}
	for _, e := range entries {
		at, found, err := s.step(dir, e.Name)
		if err != nil {
			return err
		}
		found.Entry = e
		if err := fn(found); err != nil {
			return err
		}
		if e.Kind != snapshot.Dir {
			continue
		}
		report := func(err error) error {
			found.Err = err
			return fn(found)
		}
		if err := s.walk(ctx, at, report, fn); err != nil {
			return err
		}
	}
	return nil
}

// Look tells of one name, whether or not it exists: the error is that of looking for
// it, and everything else is told nevertheless.
func (s *Surveyor) Look(name string) (Found, error) {
	at, found, err := s.top()
	if err != nil {
		return found, err
	}
	if name = clean(name); name != "." {
		for part := range strings.SplitSeq(name, "/") {
			if at, found, err = s.step(at, part); err != nil {
				return found, err
			}
		}
	}
	found.Entry, err = s.tree.Lstat(name)
	return found, err
}

// top is the tree's root.
func (s *Surveyor) top() (place, Found, error) {
	p := place{name: ".", ruling: Ruling{By: -1}}
	f := Found{Name: ".", Ruling: p.ruling}
	s.begin(&p, &f)
	return p, f, nil
}

// step goes from a directory to what is called base in it.
func (s *Surveyor) step(dir place, base string) (place, Found, error) {
	at := place{name: path.Join(dir.name, base)}
	found := Found{Name: at.name}
	var err error
	if at.ruling, err = s.judge.rule(at.name, dir.ruling); err != nil {
		return at, found, err
	}
	found.Ruling = at.ruling
	for _, t := range dir.takings {
		if t.filter != nil {
			rel := at.name
			if t.top != "." {
				rel = at.name[len(t.top)+1:]
			}
			if t.judgement, err = t.filter.judge(rel, t.judgement); err != nil {
				return at, found, err
			}
		}
		at.takings = append(at.takings, t)
		found.takenBy(t)
	}
	s.begin(&at, &found)
	return at, found, nil
}

// begin adds the selections that name p itself.
func (s *Surveyor) begin(p *place, f *Found) {
	for _, r := range s.roots[p.name] {
		t := taking{r.selection, r.filter, p.name, judgement{copied: true, below: true}}
		p.takings = append(p.takings, t)
		f.takenBy(t)
	}
}

// takenBy notes what t means to f. A selection may name a directory and again
// something in it.
func (f *Found) takenBy(t taking) {
	if f.Ruling.Excluded {
		return
	}
	list := &f.Taken
	if !t.judgement.copied {
		list = &f.LeftOut
	}
	for _, i := range *list {
		if i == t.selection {
			return
		}
	}
	*list = append(*list, t.selection)
}

// Unmatched are the positions of the rules that matched nothing so far.
func (s *Surveyor) Unmatched() []int { return s.judge.unmatched() }

// Nearest returns up to three names in t that somebody may have meant by name.
func Nearest(t snapshot.Tree, name string) []string { return nearest(t, clean(name)) }

// clean is a path as trees have it.
func clean(name string) string {
	if name = path.Join("/", name); name == "/" {
		return "."
	}
	return name[1:]
}
