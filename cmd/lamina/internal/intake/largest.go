package intake

import (
	"cmp"
	"slices"
	"strings"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
)

// maxLargest is how many files and directories are told as the largest.
const maxLargest = 10

// largest keeps the largest of what it is offered.
type largest struct{ kept []Large }

func (l *largest) offer(x Large) {
	i, _ := slices.BinarySearchFunc(l.kept, x, bySize)
	if x.Bytes == 0 || i == maxLargest {
		return
	}
	l.kept = slices.Insert(l.kept[:min(len(l.kept), maxLargest-1)], i, x)
}

// bySize orders the larger before the smaller.
func bySize(a, b Large) int {
	return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Files, a.Files), strings.Compare(a.Path, b.Path))
}

// directories adds up what is in directories while they are walked through.
type directories struct {
	way   []directory // from the outermost to the one that the walk is in
	found largest
}

type directory struct {
	Large
	// child is the size of the largest directory in it.
	child int64
}

// dominant is the part of a directory, in percent, beyond which one directory in it
// is told in its place.
const dominant = 80

// add counts f, which these copies take, unless it is excluded.
func (d *directories) add(f fileset.Found, copies []int) {
	d.leave(f.Name)
	if f.Entry.Kind == snapshot.Dir {
		d.way = append(d.way, directory{Large: Large{Path: f.Name}})
		return
	}
	if f.Ruling.Excluded {
		return
	}
	for i := range d.way {
		dir := &d.way[i]
		dir.Amount.add(f.Entry)
		dir.Copies = union(dir.Copies, copies)
	}
}

// leave ends the directories that name is not in.
func (d *directories) leave(name string) {
	for len(d.way) > 0 {
		last := len(d.way) - 1
		dir := d.way[last]
		if strings.HasPrefix(name, dir.Path+"/") {
			return
		}
		d.way = d.way[:last]
		if last > 0 {
			d.way[last-1].child = max(d.way[last-1].child, dir.Bytes)
		}
		if dir.child*100 <= dir.Bytes*dominant {
			d.found.offer(dir.Large)
		}
	}
}

// all are the largest, once the walk is over.
func (d *directories) all() []Large {
	d.leave("")
	return d.found.kept
}
