package intake

import (
	"path"
	"path/filepath"
	"strings"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
)

// Path is the answer to a question about one path.
type Path struct {
	Asked string `json:"asked"`
	Path  string `json:"path"` // in the context
	// Missing says that there is no such path; Nearest may be meant.
	Missing bool     `json:"missing,omitempty"`
	Nearest []string `json:"nearest,omitempty"`
	// Kind is "file", "directory", "link" (to Link) or "special file".
	Kind string `json:"kind,omitempty"`
	Link string `json:"link,omitempty"`
	Size int64  `json:"bytes,omitempty"`
	// Share is about what is in a directory.
	Share *Share `json:"holds,omitempty"`

	// Excluded tells what the rules say of it, and By which of them decided.
	Excluded bool  `json:"excluded"`
	By       *Rule `json:"by,omitempty"`
	// Rules are those that match it, or a directory above it, in their order.
	Rules []Match `json:"rules,omitempty"`
	// Copies take it, or something in it; LeftOut would, but for their own --exclude
	// or --parents. Both are positions in [Tree].Copies.
	Copies  []int `json:"copies"`
	LeftOut []int `json:"leftOut,omitempty"`
}

// Match is a rule that matches a path.
type Match struct {
	Rule
	// Matches is the directory above the path that it matches, if not the path.
	Matches string `json:"matches,omitempty"`
	// Excludes and Includes tell what it changed; neither, that it changed nothing.
	Excludes bool `json:"excludes,omitempty"`
	Includes bool `json:"includes,omitempty"`
}

// explain tells of one path: all but what is in it.
func (s *survey) explain(asked string) Path {
	p := Path{Asked: asked, Path: inTree(asked), Copies: []int{}}
	f, err := s.Look(p.Path)
	if err != nil {
		if at, ok := s.fromHere(asked); ok {
			p.Path = at
			f, err = s.Look(at)
		}
	}
	if err == nil {
		p.Kind, p.Link, p.Size = kindName(f.Entry.Kind), f.Entry.Link, f.Entry.Size
		if f.Entry.Kind == snapshot.Dir {
			p.Size, p.Share = 0, &Share{}
		}
	} else {
		p.Missing, p.Nearest = true, fileset.Nearest(s.Tree, p.Path)
	}
	p.Excluded = f.Ruling.Excluded
	if f.Ruling.By >= 0 {
		rule := ruleOf(s.Rules[f.Ruling.By])
		p.By = &rule
	}
	for _, step := range s.Rules.Trace(p.Path) {
		p.Rules = append(p.Rules, Match{
			Rule: ruleOf(step.Rule), Matches: step.Dir, Excludes: step.Excludes, Includes: step.Includes,
		})
	}
	p.Copies, p.LeftOut = union(p.Copies, s.takers(f.Taken)), union(nil, s.takers(f.LeftOut))
	return p
}

// inTree is name, which somebody typed, as trees have it.
func inTree(name string) string {
	if name = path.Join("/", filepath.ToSlash(name)); name != "/" {
		return name[1:]
	}
	return "."
}

// fromHere is the path in the context of what asked names from the current
// directory: not how it is meant, but what shells complete.
func (s *survey) fromHere(asked string) (string, bool) {
	if s.Remote {
		return "", false
	}
	root, err := filepath.Abs(s.Source)
	if err != nil {
		return "", false
	}
	name, err := filepath.Abs(asked)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(root, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	_, err = s.Tree.Lstat(filepath.ToSlash(rel))
	return filepath.ToSlash(rel), err == nil
}

// holds tells whether p is a directory that name is in.
func (p *Path) holds(name string) bool {
	return p.Share != nil && (p.Path == "." || strings.HasPrefix(name, p.Path+"/"))
}
