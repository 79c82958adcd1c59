package fileset

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"lamina/snapshot"
)

const (
	// maxNearest is how many names an error suggests.
	maxNearest = 3
	// maxLooked is how many names are compared to find them.
	maxLooked = 20000
)

// notFound explains that name, which asked stands for, is not in t.
func notFound(t snapshot.Tree, asked, name string) *NotFoundError {
	e := &NotFoundError{Path: asked}
	if it, ok := t.(*ignoreTree); ok {
		resolved, err := snapshot.Resolve(it.tree, name, true)
		if err == nil {
			if _, err = it.tree.Lstat(resolved); err == nil {
				if rule, hidden := it.rules.Excludes(resolved); hidden {
					e.Rule = &rule
					return e
				}
			}
		}
	}
	if at, err := snapshot.Resolve(t, name, false); err == nil {
		if link, err := t.Lstat(at); err == nil && link.Kind == snapshot.Symlink {
			e.Target = link.Link
			return e
		}
	}
	e.Nearest = nearest(t, name)
	return e
}

type candidate struct {
	name     string
	distance int
}

// nearest returns names of t that somebody may have meant by name: the same name
// in another place or another case, and names that differ in few letters.
func nearest(t snapshot.Tree, name string) []string {
	base := strings.ToLower(path.Base(name))
	limit := max(1, len(base)/3)
	var found []candidate
	looked := 0
	var visit func(dir string)
	visit = func(dir string) {
		entries, err := t.ReadDir(dir)
		if err != nil {
			return // it suggests nothing
		}
		for _, e := range entries {
			if looked++; looked > maxLooked {
				return
			}
			child := path.Join(dir, e.Name)
			d := editDistance(base, strings.ToLower(e.Name), limit)
			if path.Dir(child) != path.Dir(name) {
				d = max(1, 2*d)
			}
			if d <= limit {
				found = append(found, candidate{child, d})
			}
			if e.Kind == snapshot.Dir {
				visit(child)
			}
		}
	}
	visit(".")
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Compare(a.distance, b.distance)
	})
	var names []string
	for _, c := range found[:min(len(found), maxNearest)] {
		names = append(names, c.name)
	}
	return names
}

// editDistance is the number of letters to insert, remove or replace to make b of
// a, or some number above limit.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
