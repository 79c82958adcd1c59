package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is the number of symbolic links followed in one name, as in Linux.
const maxLinks = 40

// ErrTooManyLinks reports a name with a loop of symbolic links.
var ErrTooManyLinks = errors.New("too many levels of symbolic links")

// Resolve follows the symbolic links in name as a process would whose root is
// the tree's: ".." stops at the root and absolute targets start there. The final
// component is followed only if followLast is set. Where components do not
// exist, the rest of the name is returned unchanged, cleaned: that is the path
// at which the file would be created. The result is relative, "." for the root.
func Resolve(t Tree, name string, followLast bool) (string, error) {
	done, missing, links := ".", false, 0
	rest := strings.Split(name, "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			missing = false // what lies above the missing part may exist again
			continue
		}
		next := path.Join(done, part)
		if missing {
			done = next
			continue
		}
		e, err := t.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			done, missing = next, true
			continue
		}
		if err != nil {
			return "", err
		}
		// "a/" leaves an empty part behind a, and so names what the link a points to.
		if e.Kind != Symlink || (len(rest) == 0 && !followLast) {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolve %s: %w", name, ErrTooManyLinks)
		}
		if path.IsAbs(e.Link) {
			done = "."
		}
		rest = append(strings.Split(e.Link, "/"), rest...)
	}
	return done, nil
}
