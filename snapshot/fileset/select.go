package fileset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"lamina/snapshot"
)

// Query is what a COPY names of its source.
type Query struct {
	// Paths are relative to the tree's root, and names or patterns with * ? and [ ],
	// in which a backslash makes the next character literal. Links are followed
	// inside the tree, the last component's too.
	Paths []string
	// Parents keeps the directories above what is named (COPY --parents): those
	// after the first "/./" of a path, or all. What stands behind that pivot is a
	// pattern as in an ignore file, with **, and follows no link.
	Parents bool
	// Exclude are patterns as in an ignore file of what to leave out, relative to
	// each directory that is selected.
	Exclude []string
}

// Selection is what a query finds in a tree, to be copied in that order.
type Selection struct {
	tree    snapshot.Tree
	query   Query
	matches []match
}

// match is one file or directory of a selection.
type match struct {
	base   string // its name where it is copied into a directory: as it was asked for
	name   string // its path in the tree, without links
	entry  snapshot.Entry
	filter *filter // of what is in it; nil for everything
}

// Select finds what q names in t, by COPY's rules. A name that is missing is a
// [*NotFoundError]. A pattern may match nothing, in a directory that is there.
func Select(ctx context.Context, t snapshot.Tree, q Query) (*Selection, error) {
	s := &Selection{tree: t, query: q}
	filter, err := newFilter(nil, q.Exclude)
	if err != nil {
		return nil, err
	}
	for _, p := range q.Paths {
		if q.Parents {
			err = s.addParents(ctx, p)
		} else {
			err = s.add(ctx, p, filter)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add selects what p stands for.
func (s *Selection) add(ctx context.Context, p string, f *filter) error {
	names, err := expand(ctx, s.tree, p)
	if err != nil {
		return err
	}
	for _, n := range names {
		m, err := resolveMatch(s.tree, n)
		if errors.Is(err, fs.ErrNotExist) {
			if hasMeta(p) {
				p = n
			}
			return notFound(s.tree, p, n)
		}
		if err != nil {
			return err
		}
		m.filter = f
		s.matches = append(s.matches, m)
	}
	return nil
}

// Len returns the number of files and directories that the paths name, without
// those inside the directories.
func (s *Selection) Len() int { return len(s.matches) }

// expand returns the names that p stands for: itself, or what it matches.
func expand(ctx context.Context, t snapshot.Tree, p string) ([]string, error) {
	clean := strings.TrimPrefix(path.Clean("/"+p), "/")
	if clean == "" {
		clean = "."
	}
	literal, pattern := splitMeta(clean)
	if pattern == "" {
		return []string{unquote(literal)}, nil
	}
	dir, err := snapshot.Resolve(t, unquote(literal), true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	switch e, err := t.Lstat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notFound(t, literal, unquote(literal))
	case err != nil:
		return nil, err
	case e.Kind != snapshot.Dir:
		return nil, fmt.Errorf("%q matches no file: %q is not a directory", p, literal)
	}
	names, err := glob(ctx, t, dir, pattern)
	if errors.Is(err, path.ErrBadPattern) {
		return nil, fmt.Errorf("%q is not a valid pattern", p)
	}
	return names, err
}

// unquote removes the backslashes that keep characters from being a pattern.
func unquote(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+1 < len(name) {
			i++
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

func resolveMatch(t snapshot.Tree, name string) (match, error) {
	resolved, err := snapshot.Resolve(t, name, true)
	if err != nil {
		return match{}, err
	}
	e, err := t.Lstat(resolved)
	return match{base: path.Base(name), name: resolved, entry: e}, err
}
