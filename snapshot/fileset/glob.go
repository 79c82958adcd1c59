package fileset

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"lamina/snapshot"
)

// hasMeta tells whether name is a pattern. A backslash quotes what follows it.
func hasMeta(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// splitMeta splits name before its first component that is a pattern.
func splitMeta(name string) (literal, pattern string) {
	parts := strings.Split(name, "/")
	i := slices.IndexFunc(parts, hasMeta)
	if i < 0 {
		return name, ""
	}
	literal = strings.Join(parts[:i], "/")
	if literal == "" {
		literal = "."
	}
	return literal, strings.Join(parts[i:], "/")
}

// glob returns what beneath dir the pattern matches, in the order of a walk, as
// path.Match does: a "**" is no more than a "*". Links on the way are not
// followed. What lies in a directory that matched is not listed again.
func glob(ctx context.Context, t snapshot.Tree, dir, pattern string) ([]string, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	if err := globInto(ctx, t, dir, strings.Split(pattern, "/"), found); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(found))
	for n := range found {
		names = append(names, n)
	}
	slices.SortFunc(names, compareWalk)
	return slices.DeleteFunc(names, func(n string) bool {
		for up := path.Dir(n); up != "." && up != n; up = path.Dir(up) {
			if found[up] {
				return true
			}
		}
		return false
	}), nil
}

// globInto adds to found what beneath dir the components of a pattern match.
func globInto(
	ctx context.Context, t snapshot.Tree, dir string, parts []string, found map[string]bool,
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := t.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	part, rest := parts[0], parts[1:]
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		ok, err := path.Match(part, e.Name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if len(rest) == 0 {
			found[name] = true
			continue // and what is beneath goes with it
		}
		if e.Kind != snapshot.Dir {
			continue
		}
		if err := globInto(ctx, t, name, rest, found); err != nil {
			return err
		}
	}
	return nil
}

// compareWalk orders names as a walk that reads each directory in order meets them.
func compareWalk(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}
