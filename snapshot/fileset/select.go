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

// Selection is what some paths of a tree name, to be copied in that order.
type Selection struct {
	tree    snapshot.Tree
	paths   []string
	matches []match
}

// match is one file or directory of a selection.
type match struct {
	base  string // its name where it is copied into a directory: as it was asked for
	name  string // its path in the tree, without links
	entry snapshot.Entry
}

// Select finds what paths name in t, by COPY's rules. They are relative to its
// root, and names or patterns with * ? [ ] and **, in which a backslash makes the
// next character literal. Links are followed inside the tree, the last
// component's too. A name that is missing is a [*NotFoundError]. A pattern may
// match nothing; but where nothing at all is selected, [Copy] fails with one.
func Select(ctx context.Context, t snapshot.Tree, paths []string) (*Selection, error) {
	s := &Selection{tree: t, paths: paths}
	for _, p := range paths {
		names, err := expand(ctx, t, p)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			m, err := resolveMatch(t, n)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, notFound(t, p, n)
			}
			if err != nil {
				return nil, err
			}
			s.matches = append(s.matches, m)
		}
	}
	return s, nil
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
