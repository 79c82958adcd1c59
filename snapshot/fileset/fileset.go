// Package fileset is what COPY and ADD are made of: it selects files from a tree,
// identifies exactly what was selected, and writes it as a layer.
//
//	context, err := fileset.Host(dir)                       // a directory of this machine
//	tree, err := fileset.Ignore(context, patterns)          // without what .dockerignore hides
//	sel, err := fileset.Select(ctx, tree, query)          // what a COPY names
//	id, err := sel.Digest(ctx, index, opt)                  // same identity, same result
//	err = fileset.Copy(ctx, draft, base, []fileset.From{{Selection: sel, Expect: &id}}, copyOpt)
//
// Nothing is mounted for it. Links in a destination are followed through the
// stack of layers beneath, links in a source through the source's own tree, and
// neither can lead out of its root. Times are never part of an identity.
package fileset

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ErrChanged reports a file that is not, or no longer, the one that was
// identified: somebody edits the build context while it is being read.
var ErrChanged = errors.New("changed while it was being read")

// NotFoundError reports a path, or a pattern, that selects nothing.
// It is fs.ErrNotExist to errors.Is.
type NotFoundError struct {
	// Path is what was asked for.
	Path string
	// Nearest are up to three names in the tree that may have been meant.
	Nearest []string
	// Rule is what in the ignore file hides the path, if it does.
	Rule *Rule
	// Target is where the path leads, if it is a link to nothing.
	Target string
}

func (e *NotFoundError) Error() string {
	switch {
	case e.Rule != nil:
		return fmt.Sprintf("%q is excluded by %s", e.Path, e.Rule)
	case e.Target != "":
		return fmt.Sprintf("%q is a link to %q, which does not exist", e.Path, e.Target)
	case hasMeta(e.Path):
		return fmt.Sprintf("%q matches no file", e.Path)
	case len(e.Nearest) > 0:
		return fmt.Sprintf("%q not found; did you mean %s?", e.Path, quotedList(e.Nearest))
	}
	return fmt.Sprintf("%q not found", e.Path)
}

// Unwrap makes the error fs.ErrNotExist.
func (e *NotFoundError) Unwrap() error { return fs.ErrNotExist }

// quotedList renders names as `"a", "b" or "c"`.
func quotedList(names []string) string {
	var b strings.Builder
	for i, n := range names {
		switch {
		case i > 0 && i == len(names)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", n)
	}
	return b.String()
}

// Sum describes one selected file, so that a difference between two selections
// can be said by name.
type Sum struct {
	// Name is the file's path in its tree.
	Name string `json:"name"`
	// Mode is the type and permission bits as in stat(2).
	Mode uint32 `json:"mode"`
	// UID and GID are the owner, if it is part of the identity.
	UID int `json:"uid,omitempty"`
	GID int `json:"gid,omitempty"`
	// Digest covers what else counts, by type: the content and extended attributes
	// of a file, the target of a link, the number of a device. It is the plain
	// digest of the content for a file without extended attributes, and empty for
	// a directory without any.
	Digest digest.Digest `json:"digest,omitempty"`
}
