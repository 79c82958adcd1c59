package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"lamina/snapshot"
)

// Stub is something that a root lacks and that must be there before a mount.
type Stub struct {
	Name string // relative to the root
	Dir  bool   // a directory, or an empty file
	Keep bool   // see snapshot.Target
}

// Stubs tells what t lacks of the places in targets and of their parents,
// parents first. Links in targets are followed inside t.
func Stubs(t snapshot.Tree, targets []snapshot.Target) ([]Stub, error) {
	p := plan{tree: t, made: map[string]bool{}}
	for _, target := range targets {
		if err := p.add(target); err != nil {
			return nil, fmt.Errorf("mount target %s: %w", target.Path, err)
		}
	}
	return p.stubs, nil
}

// plan collects stubs.
type plan struct {
	tree  snapshot.Tree
	made  map[string]bool // whether a stub, by name, is a directory
	stubs []Stub
}

func (p *plan) add(target snapshot.Target) error {
	name, err := snapshot.Resolve(p.tree, target.Path, true)
	if err != nil {
		return err
	}
	for _, above := range parents(name) {
		if err := p.need(above, snapshot.Target{Dir: true, Keep: target.Keep}); err != nil {
			return err
		}
	}
	return p.need(name, target)
}

// need makes sure that name will be there, of target's kind. Its parents are.
func (p *plan) need(name string, target snapshot.Target) error {
	dir := target.Dir
	is, ok := p.made[name]
	if !ok {
		e, err := p.tree.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			p.made[name] = dir
			p.stubs = append(p.stubs, Stub{Name: name, Dir: dir, Keep: target.Keep})
			return nil
		}
		if err != nil {
			return err
		}
		is = e.Kind == snapshot.Dir
	}
	switch {
	case dir && !is:
		return fmt.Errorf("/%s is not a directory", name)
	case is && !dir:
		return fmt.Errorf("/%s is a directory, a file cannot be mounted on it", strings.TrimPrefix(name, "."))
	}
	return nil
}

// parents lists the directories above name, the uppermost first, without the root.
func parents(name string) []string {
	var up []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		up = append(up, dir)
	}
	slices.Reverse(up)
	return up
}
