package build

import (
	"bytes"
	"path"
	"time"

	"lamina/snapshot"
)

// dateContext tells the frontend how old the context is, if it may ask for that with
// SOURCE_DATE_EPOCH=context. A directory of this machine has no age of its own. What
// was fetched is from when its server says, or else it is as old as the youngest
// file in it: in a commit that is the commit.
func (b *build) dateContext(in *input) error {
	asked := b.lowering.BuildArgs[epochArg] == contextName || bytes.Contains(in.source, []byte(epochArg+"="+contextName))
	if !asked || !in.dated {
		return nil
	}
	when := in.modified
	if when.Unix() <= 0 { // 1970 stands for a server that does not say
		var err error
		if when, err = newest(in.tree, "."); err != nil {
			return err
		}
	}
	if !when.IsZero() {
		seconds := when.Unix()
		b.lowering.ContextTime = &seconds
	}
	return nil
}

// newest is the latest time of a regular file in the directory dir of t; zero if
// there is none.
func newest(t snapshot.Tree, dir string) (latest time.Time, err error) {
	entries, err := t.ReadDir(dir)
	if err != nil {
		return latest, err
	}
	for _, e := range entries {
		when := e.ModTime
		switch e.Kind {
		case snapshot.File:
		case snapshot.Dir:
			if when, err = newest(t, path.Join(dir, e.Name)); err != nil {
				return latest, err
			}
		default:
			continue
		}
		if when.After(latest) {
			latest = when
		}
	}
	return latest, nil
}
