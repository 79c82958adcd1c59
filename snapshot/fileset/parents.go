package fileset

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"lamina/snapshot"
)

// addParents selects what p means with --parents: of the directory before the
// pivot what the pattern behind it matches, and the directories in between. A
// path without any pattern in it has to select something.
func (s *Selection) addParents(ctx context.Context, p string) error {
	root, pattern, pivot := strings.Cut(p, "/./")
	if !pivot {
		root, pattern = "/", p
	}
	pattern = path.Clean("/" + pattern)[1:]
	if pattern == "" {
		return fmt.Errorf("%q with --parents names no file: end it in **, or leave --parents out", p)
	}
	f, err := newFilter([]string{pattern}, s.query.Exclude)
	if err != nil {
		return err
	}
	n := len(s.matches)
	if err := s.add(ctx, root, f); err != nil {
		return err
	}
	if hasMeta(root) || hasMeta(pattern) {
		return nil
	}
	for i := range s.matches[n:] {
		if found, err := s.isAny(ctx, s.matches[n+i]); found || err != nil {
			return err
		}
	}
	return s.nothingOf(p, path.Join("/", unquote(root), unquote(pattern))[1:])
}

// errFound ends a walk.
var errFound = errors.New("found")

// isAny tells whether m's filter leaves anything.
func (s *Selection) isAny(ctx context.Context, m match) (bool, error) {
	err := walk(ctx, s.tree, m, func(it item) error {
		if it.isTop() {
			return nil
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// nothingOf explains that p, which means name, selects nothing.
func (s *Selection) nothingOf(p, name string) error {
	at, err := snapshot.Resolve(s.tree, name, false)
	if err != nil {
		return err
	}
	if _, err := s.tree.Lstat(at); err != nil {
		return notFound(s.tree, p, name)
	}
	if at != name {
		return fmt.Errorf("%q leads through a link, which --parents does not follow: it is %q", p, at)
	}
	return fmt.Errorf("--exclude leaves nothing of %q", p)
}
