package fileset

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"

	"lamina/snapshot"
)

// Ignore returns t without what rules exclude, as .dockerignore has it:
// a pattern excludes what it matches and all beneath it, "!" includes again, and
// the last pattern that applies wins. An excluded directory is still there if
// something beneath it is included again.
//
// Excluded directories are not read unless a "!" pattern may match in them.
func Ignore(t snapshot.Tree, rules Rules) (snapshot.Tree, error) {
	m, err := patternmatcher.New(rules.Patterns())
	if err != nil {
		return nil, fmt.Errorf("ignore patterns: %w", err)
	}
	if len(m.Patterns()) == 0 {
		return t, nil
	}
	return &ignoreTree{
		tree:    t,
		rules:   rules,
		matcher: m,
		dirs:    map[string]verdict{},
		holds:   map[string]bool{},
	}, nil
}

type ignoreTree struct {
	tree  snapshot.Tree
	rules Rules

	mu      sync.Mutex
	matcher *patternmatcher.PatternMatcher // not safe for concurrent use
	dirs    map[string]verdict             // of directories that were asked about
	holds   map[string]bool                // excluded directories: is something in them included
}

// verdict is what the patterns say of a name. The one of a directory is needed
// for what is in it.
type verdict struct {
	excluded bool
	info     patternmatcher.MatchInfo
}

// Lstat implements [snapshot.Tree].
func (t *ignoreTree) Lstat(name string) (snapshot.Entry, error) {
	e, err := t.tree.Lstat(name)
	if err != nil {
		return e, err
	}
	if shown, err := t.shows(name, e.Kind); err != nil || !shown {
		return snapshot.Entry{}, hidden("lstat", name, err)
	}
	return e, nil
}

// ReadDir implements [snapshot.Tree].
func (t *ignoreTree) ReadDir(name string) ([]snapshot.Entry, error) {
	if shown, err := t.shows(name, snapshot.Dir); err != nil || !shown {
		return nil, hidden("readdir", name, err)
	}
	all, err := t.tree.ReadDir(name)
	if err != nil {
		return nil, err
	}
	kept := make([]snapshot.Entry, 0, len(all))
	for _, e := range all {
		child := path.Join(name, e.Name)
		shown, err := t.shows(child, e.Kind)
		if err != nil {
			return nil, hidden("readdir", child, err)
		}
		if shown {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// Open implements [snapshot.Tree].
func (t *ignoreTree) Open(name string) (io.ReadCloser, error) {
	if shown, err := t.shows(name, snapshot.File); err != nil || !shown {
		return nil, hidden("open", name, err)
	}
	return t.tree.Open(name)
}

// Xattrs implements [snapshot.Tree].
func (t *ignoreTree) Xattrs(name string) (map[string]string, error) {
	if _, err := t.Lstat(name); err != nil {
		return nil, err
	}
	return t.tree.Xattrs(name)
}

func (t *ignoreTree) openWithXattrs(name string) (io.ReadCloser, map[string]string, error) {
	if shown, err := t.shows(name, snapshot.File); err != nil || !shown {
		return nil, nil, hidden("open", name, err)
	}
	return openWithXattrs(t.tree, name)
}

// Path returns the path of the tree beneath, which identifies its files.
func (t *ignoreTree) Path() string { return rootPath(t.tree) }

// hidden is the error for a name that is not shown, or why that is not known.
func hidden(op, name string, err error) error {
	if err == nil {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// shows tells whether name, which the tree beneath has, is in this one.
func (t *ignoreTree) shows(name string, k snapshot.Kind) (bool, error) {
	if name == "." {
		return true, nil
	}
	v, err := t.judge(name, k == snapshot.Dir)
	if err != nil || !v.excluded {
		return err == nil, err
	}
	return k == snapshot.Dir && t.holdsIncluded(name), nil
}

// judge returns what the patterns say of name, and remembers it of directories.
func (t *ignoreTree) judge(name string, dir bool) (verdict, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judgeLocked(name, dir)
}

func (t *ignoreTree) judgeLocked(name string, dir bool) (verdict, error) {
	if name == "." {
		return verdict{}, nil
	}
	if v, ok := t.dirs[name]; ok {
		return v, nil
	}
	parent, err := t.judgeLocked(path.Dir(name), true)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	v.excluded, v.info, err = t.matcher.MatchesUsingParentResults(name, parent.info)
	if err != nil {
		return verdict{}, fmt.Errorf("ignore patterns: %w", err)
	}
	if dir {
		t.dirs[name] = v
	}
	return v, nil
}

// holdsIncluded tells whether something beneath the excluded directory dir is
// included again. A directory that cannot be read holds nothing.
func (t *ignoreTree) holdsIncluded(dir string) bool {
	if !t.mayInclude(dir) {
		return false
	}
	t.mu.Lock()
	held, known := t.holds[dir]
	t.mu.Unlock()
	if known {
		return held
	}
	entries, err := t.tree.ReadDir(dir)
	if err == nil {
		for _, e := range entries {
			if shown, err := t.shows(path.Join(dir, e.Name), e.Kind); err == nil && shown {
				held = true
				break
			}
		}
	}
	t.mu.Lock()
	t.holds[dir] = held
	t.mu.Unlock()
	return held
}

// mayInclude tells whether a "!" pattern might match something beneath dir. It
// errs in one direction only, and has to err, because the patterns are regular
// expressions in the end.
func (t *ignoreTree) mayInclude(dir string) bool {
	return t.matcher.Exclusions() && anyMayMatchBelow(t.matcher, true, dir)
}

func mayMatchBelow(pattern, dir string) bool {
	if strings.Contains(pattern, "**") || strings.ContainsAny(pattern, `[\`) {
		return true // these can match a slash
	}
	for pattern != "" && dir != "" {
		var p, d string
		p, pattern, _ = strings.Cut(pattern, "/")
		d, dir, _ = strings.Cut(dir, "/")
		if ok, err := path.Match(p, d); err == nil && !ok {
			return false
		}
	}
	return pattern != ""
}

// rootPath returns the path of the directory that t shows, and nothing if t is
// not the view of one.
func rootPath(t snapshot.Tree) string {
	if p, ok := t.(interface{ Path() string }); ok {
		return p.Path()
	}
	return ""
}
