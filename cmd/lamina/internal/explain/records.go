package explain

import (
	"strings"
	"time"

	"lamina/cache"
	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// noCacheOption is what made s be executed although it may be remembered.
func (e *explainer) noCacheOption(s *builds.Step) string {
	if e.build.NoCache || len(e.build.NoCacheFilter) == 0 {
		return "--no-cache"
	}
	name := stage(s.Name)
	if fields := strings.Fields(name); len(fields) > 0 {
		name = fields[len(fields)-1] // after the platform
	}
	for _, f := range e.build.NoCacheFilter {
		if strings.EqualFold(f, name) {
			return "--no-cache-filter=" + f
		}
	}
	return "--no-cache-filter=" + strings.Join(e.build.NoCacheFilter, ",")
}

// recordless explains a step whose key is that of an earlier one: what was remembered
// of that cannot be used, or is not there any more.
func (e *explainer) recordless(r *reason, i int) bool {
	s := &e.build.Steps[i]
	same, ok := e.sameKey(s)
	if ok {
		r.near, r.from = same.near(), same.from
	}
	switch {
	case s.Lost:
		e.blame(r, i, Cause{Kind: Lost})
	case e.evicted(r, i, same, ok):
	case s.Absent:
		e.blame(r, i, Cause{Kind: Absent})
	case ok && same.step().Verdict == solver.VerdictFailed:
		e.blame(r, i, Cause{Kind: Failed, Subject: string(builds.Failed)})
	case ok && same.step().Verdict == solver.VerdictCanceled:
		e.blame(r, i, Cause{Kind: Failed, Subject: string(builds.Canceled)})
	case ok && known(same.step()):
		e.blame(r, i, Cause{Kind: Gone})
	default:
		return false
	}
	return true
}

// sameKey is the latest step with a key of s that was looked up or executed.
func (e *explainer) sameKey(s *builds.Step) (candidate, bool) {
	for _, o := range e.earlier {
		for at := range o.Steps {
			c := candidate{o, at}
			if old := c.step(); sameKeys(s, old) && (known(old) || old.Verdict.Ran()) {
				return c, true
			}
		}
	}
	return candidate{}, false
}

func sameKeys(a, b *builds.Step) bool {
	return a.Narrow != "" && a.Narrow == b.Narrow || a.Whole != "" && a.Whole == b.Whole
}

// evicted blames whoever removed the record of step i before the build, if anybody
// did, and nobody met with it since: last is who did so last, if that is known.
func (e *explainer) evicted(r *reason, i int, last candidate, isKnown bool) bool {
	if e.history.Evicted == nil {
		return false
	}
	s := &e.build.Steps[i]
	for _, k := range []cache.Key{s.Whole, s.Narrow} {
		if k == "" {
			continue
		}
		when, who, err := e.history.Evicted(k)
		since := isKnown && last.from.cache == "" && last.from.Started.After(when.Add(time.Second)) // a log has whole seconds
		if err == nil && when.Before(e.build.Ended) && !since {
			e.blame(r, i, Cause{Kind: Evicted, Subject: who, When: when})
			return true
		}
	}
	return false
}
