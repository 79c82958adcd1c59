package explain

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot/fileset"
)

// changes are the files in which two lists of files differ.
type changes struct {
	first []File
	count int
	limit int // of first
}

func (c *changes) add(f File) {
	if c.count++; len(c.first) < c.limit {
		c.first = append(c.first, f)
	}
}

// tables compares the tables in two lists of parts. It is an error if one of them
// cannot be read.
func (e *explainer) tables(before, after []ocispec.Descriptor) (*changes, error) {
	if len(before) == 0 || len(after) == 0 {
		return nil, errors.New("no list of files was kept")
	}
	c := &changes{limit: e.history.Files}
	a, b := newReader(e.sums(before)), newReader(e.sums(after))
	defer a.stop()
	defer b.stop()
	ordered, err := c.join(a, b)
	if err != nil || ordered {
		return c, err
	}
	c = &changes{limit: e.history.Files}
	return c, c.match(e.sums(before), e.sums(after))
}

// sums are the files of the tables parts, one after the other.
func (e *explainer) sums(parts []ocispec.Descriptor) iter.Seq2[fileset.Sum, error] {
	return func(yield func(fileset.Sum, error) bool) {
		for _, d := range parts {
			if more := e.eachSum(d, yield); !more {
				return
			}
		}
	}
}

func (e *explainer) eachSum(d ocispec.Descriptor, yield func(fileset.Sum, error) bool) (more bool) {
	f, err := e.open(d)
	if err != nil {
		return yield(fileset.Sum{}, err)
	}
	defer f.Close()
	for s, err := range fileset.ReadTable(f) {
		if !yield(s, err) {
			return false
		}
	}
	return true
}

// reader reads the files of a list, one at a time.
type reader struct {
	next func() (fileset.Sum, error, bool)
	stop func()

	sum     fileset.Sum
	ok      bool // there is a sum
	ordered bool // each came after the one before
	err     error
}

func newReader(files iter.Seq2[fileset.Sum, error]) *reader {
	r := &reader{ordered: true}
	r.next, r.stop = iter.Pull2(files)
	r.advance()
	return r
}

func (r *reader) advance() {
	last, had := r.sum.Name, r.ok
	r.sum, r.err, r.ok = r.next()
	r.ok = r.ok && r.err == nil
	if r.ok && had && comparePaths(r.sum.Name, last) <= 0 {
		r.ordered = false
	}
}

// join compares two lists in one pass, and holds neither. It gives up if they are not
// in order: a COPY of several paths lists what each of them selects.
func (c *changes) join(a, b *reader) (ordered bool, err error) {
	for (a.ok || b.ok) && a.err == nil && b.err == nil {
		if !a.ordered || !b.ordered {
			return false, nil
		}
		switch d := compareReaders(a, b); {
		case d < 0:
			c.add(File{Path: a.sum.Name, Change: "removed"})
			a.advance()
		case d > 0:
			c.add(File{Path: b.sum.Name, Change: "new"})
			b.advance()
		default:
			if f, differ := compareSums(a.sum, b.sum); differ {
				c.add(f)
			}
			a.advance()
			b.advance()
		}
	}
	return true, cmp.Or(a.err, b.err)
}

// compareReaders orders the files that two lists are at.
func compareReaders(a, b *reader) int {
	switch {
	case !a.ok:
		return 1
	case !b.ok:
		return -1
	}
	return comparePaths(a.sum.Name, b.sum.Name)
}

// match compares two lists in any order, of which it holds the first.
func (c *changes) match(before, after iter.Seq2[fileset.Sum, error]) error {
	type held struct {
		fileset.Sum
		seen bool
	}
	was := map[string]*held{}
	for s, err := range before {
		if err != nil {
			return err
		}
		was[s.Name] = &held{Sum: s}
	}
	for s, err := range after {
		if err != nil {
			return err
		}
		old := was[s.Name]
		if old == nil {
			c.add(File{Path: s.Name, Change: "new"})
			continue
		}
		if f, differ := compareSums(old.Sum, s); differ && !old.seen {
			c.add(f)
		}
		old.seen = true
	}
	for _, name := range slices.SortedFunc(maps.Keys(was), comparePaths) {
		if !was[name].seen {
			c.add(File{Path: name, Change: "removed"})
		}
	}
	return nil
}

// comparePaths orders paths as a walk meets them: by their components.
func comparePaths(a, b string) int {
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if d := strings.Compare(x, y); d != 0 || !moreA || !moreB {
			if d == 0 && moreA != moreB {
				if moreB {
					return -1
				}
				return 1
			}
			return d
		}
		a, b = restA, restB
	}
}

// compareSums says in what two files of the same name differ.
func compareSums(a, b fileset.Sum) (File, bool) {
	f := File{Path: b.Name}
	var what []string
	note := func(change, before, after string) {
		if before == after {
			return
		}
		if what = append(what, change); f.Before == "" {
			f.Before, f.After = before, after
		}
	}
	note("type", typeName(a.Mode), typeName(b.Mode))
	if len(what) == 0 {
		if a.Digest != b.Digest {
			what = append(what, contentOf(b.Mode))
		}
		note("mode", fmt.Sprintf("%04o", a.Mode&0o7777), fmt.Sprintf("%04o", b.Mode&0o7777))
		note("owner", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	}
	f.Change = strings.Join(what, ", ")
	return f, len(what) > 0
}

// contentOf is what the digest of a file of this mode is of.
func contentOf(mode uint32) string {
	switch typeName(mode) {
	case "file":
		return "content"
	case "link":
		return "target"
	case "device":
		return "number"
	}
	return "attributes"
}

// typeName names the type in a mode of stat(2).
func typeName(mode uint32) string {
	switch mode & 0o170000 {
	case 0o040000:
		return "directory"
	case 0o120000:
		return "link"
	case 0o100000:
		return "file"
	case 0o010000:
		return "pipe"
	}
	return "device"
}

// covers tells whether all of these files are among those that c lists completely.
func (c *Cause) covers(files []File, more int) bool {
	return more == 0 && c.More == 0 && !slices.ContainsFunc(files, func(f File) bool { return !slices.Contains(c.Files, f) })
}
