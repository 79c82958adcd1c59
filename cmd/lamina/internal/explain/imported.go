package explain

import (
	"iter"

	"github.com/opencontainers/go-digest"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// Cache is the records of one of the caches that a build was given.
type Cache struct {
	// Number is the position in the build's Caches, counted from 1.
	Number  int
	Records iter.Seq[*solver.Record]
	// Learn has it learnt where the tables of a record are.
	Learn func(*solver.Record) error
}

// Imported are the records of caches that are nearest to the steps of b that were
// executed, and those that they stand on: what of caches is worth remembering, as
// [builds.Build].Imported.
func Imported(b *builds.Build, caches []Cache) []builds.Step {
	e := &explainer{build: b, texts: textsOf(b)}
	if !e.anythingRan() {
		return nil
	}
	var all []builds.Step
	for _, c := range caches {
		all = append(all, e.nearestIn(c)...)
	}
	return all
}

// nearestIn are the records of c that are worth remembering.
func (e *explainer) nearestIn(c Cache) []builds.Step {
	var records []*solver.Record
	var asBuild builds.Build
	byID := map[digest.Digest]int{}
	for r := range c.Records {
		byID[r.Result.ID] = len(records)
		records = append(records, r)
		asBuild.Steps = append(asBuild.Steps, stepOfRecord(r, c.Number))
	}
	o := e.newEarlier(&asBuild, e.build.Caches[c.Number-1].Name)
	e.earlier, e.closest = []*earlier{o}, map[int]int{o.group(): o.apart}

	chosen := map[int]bool{}
	var choose func(at int)
	choose = func(at int) {
		if chosen[at] {
			return
		}
		chosen[at] = true
		for _, in := range asBuild.Steps[at].Inputs {
			if below, ok := byID[in.ID]; ok {
				choose(below)
			}
		}
	}
	for i := range e.build.Steps {
		if !ran(&e.build.Steps[i]) {
			continue
		}
		if near, ok := e.nearest(i); ok {
			choose(near.at)
		}
	}
	var all []builds.Step
	for at, r := range records {
		if chosen[at] && c.Learn(r) == nil {
			s := asBuild.Steps[at]
			s.Narrow, s.Whole = r.Keys()
			all = append(all, s)
		}
	}
	return all
}

// stepOfRecord is a record as a step of a build would be that executed it.
func stepOfRecord(r *solver.Record, from int) builds.Step {
	s := builds.Step{
		Name: r.Name, Pos: r.Pos, Kind: r.Kind, Op: r.Op, ID: r.Result.ID,
		Verdict: solver.VerdictExecuted, From: from, Absent: r.Absent, Started: r.Created, Took: r.Took,
	}
	for _, in := range r.Inputs {
		s.Inputs = append(s.Inputs, builds.Input{ID: in.ID, Name: in.Name, Read: in.Read})
	}
	return s
}
