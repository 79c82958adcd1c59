package explain

import (
	"cmp"
	"math"
	"slices"

	"github.com/opencontainers/go-digest"

	"lamina/cmd/lamina/internal/builds"
)

// nearest is the step that differs least from step i, of the first group that has any
// like it. Of those that differ in equally many things it is the one that read the
// most equal files; then that of the build which what step i stands on is compared
// with, of the one that has the most instructions in common, and of the latest.
func (e *explainer) nearest(i int) (candidate, bool) {
	ties := e.ties(i)
	if len(ties) == 0 {
		return candidate{}, false
	}
	parents, files := e.comparedBelow(i), e.filesApart(i, ties)
	return slices.MinFunc(ties, func(a, b candidate) int {
		return cmp.Or(files(a)-files(b), prefer(parents, a.from, b.from), a.from.apart-b.from.apart)
	}), true
}

// ties are the steps of the first group that differ least from step i, the latest
// first.
func (e *explainer) ties(i int) []candidate {
	var all []candidate
	least := 0
	for _, o := range e.earlier {
		for at := range o.Steps {
			c := candidate{o, at}
			if len(all) > 0 && o.group() > all[0].from.group() || !e.comparable(i, c) {
				continue
			}
			d := e.distance(i, c)
			if len(all) == 0 || o.group() < all[0].from.group() || d < least {
				all, least = nil, d
			}
			if d == least {
				all = append(all, c)
			}
		}
	}
	return all
}

// comparedBelow is what the step that step i stands on was compared with, nil if that
// was not executed.
func (e *explainer) comparedBelow(i int) *earlier {
	in := e.build.Steps[i].Inputs
	if len(in) == 0 || e.reasons == nil || !ran(&e.build.Steps[in[0].Step]) {
		return nil
	}
	return e.reason(in[0].Step).from
}

// prefer orders a and b by which of them is the preferred.
func prefer(preferred, a, b *earlier) int {
	switch {
	case a == b || preferred == nil:
		return 0
	case a == preferred:
		return -1
	case b == preferred:
		return 1
	}
	return 0
}

// distance is in how many things step i differs from c, twice. Another image of the
// same name is half a difference.
func (e *explainer) distance(i int, c candidate) int {
	s, o := &e.build.Steps[i], c.step()
	n := 2 * len(differences(o, s))
	for j, in := range s.Inputs {
		if j < len(o.Inputs) && sameInput(o.Inputs[j], in) {
			continue
		}
		n += 2
		old, ok := c.from.source(c.at, j)
		if source := &e.build.Steps[in.Step]; ok && source.Kind == "image" && imageName(source.Name) == imageName(c.from.Steps[old].Name) {
			n--
		}
	}
	return n
}

// How many lists of files are compared to find the nearest one, and how long they may
// be, compressed: some hundred thousand files.
const (
	maxCompared = 8
	maxTable    = 4 << 20
)

// filesApart returns what tells in how many files a candidate differs from step i, as
// far as that is worth knowing: there must be a choice.
func (e *explainer) filesApart(i int, ties []candidate) func(candidate) int {
	s := &e.build.Steps[i]
	counts := map[digest.Digest]int{}
	var inputs []int
	for j, in := range s.Inputs {
		if e.build.Steps[in.Step].Kind == "local" {
			inputs = append(inputs, j)
		}
	}
	count := func(was, is builds.Input) int {
		if n, ok := counts[was.Read.Digest]; ok {
			return n
		}
		n := math.MaxInt32
		if len(counts) < maxCompared && tableSize(was)+tableSize(is) <= maxTable {
			if c, err := e.tables(was.Read.Parts, is.Read.Parts); err == nil {
				n = c.count
			}
		}
		counts[was.Read.Digest] = n
		return n
	}
	return func(c candidate) int {
		if len(ties) == 1 {
			return 0
		}
		n := 0
		for _, j := range inputs {
			if was := c.step().Inputs; j < len(was) && !sameInput(was[j], s.Inputs[j]) {
				n = min(n+count(was[j], s.Inputs[j]), math.MaxInt32)
			}
		}
		return n
	}
}

func tableSize(in builds.Input) (n int64) {
	for _, d := range in.Read.Parts {
		n += d.Size
	}
	return n
}

// sameInput tells whether a step reads the same of two inputs, as far as is known.
func sameInput(a, b builds.Input) bool {
	if a.Read.Digest != "" && b.Read.Digest != "" {
		return a.Read.Digest == b.Read.Digest
	}
	return a.ID == b.ID || a.ID == "" || b.ID == ""
}
