// Package explain says why the steps of a build were executed, by comparing them with
// the nearest earlier ones.
//
//	report, err := explain.Build(b, explain.History{Earlier: earlier, Table: open})
//	report.WriteText(w)
//
// A step is compared with the step of an earlier build, or of a cache from elsewhere,
// that differs from it least. What differs is a cause, unless it is a step that was
// executed as well: then that step's causes are its own. So one edited file is one
// cause, however many steps were executed because of it.
//
// The package reads no store: what it compares it is given. It depends on nothing but
// the build and what is older, and so gives the same answer at any time.
package explain

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cmd/lamina/internal/builds"
)

// History is what a build is compared with, and what is known of it. Functions that
// are nil know nothing.
type History struct {
	// Earlier are the builds before it, the latest first. No more of them are taken
	// than it takes.
	Earlier iter.Seq[*builds.Build]
	// Table opens the list of files that a descriptor in solver.Identity.Parts refers
	// to; one that is gone is fs.ErrNotExist.
	Table func(ocispec.Descriptor) (io.ReadCloser, error)
	// Evicted tells when and why the record of a key was removed: fs.ErrNotExist if it
	// was not, as far as anybody knows.
	Evicted func(cache.Key) (time.Time, string, error)
	// Commit tells which commit of a Git repository a result is of, "" if it is not known.
	Commit func(digest.Digest) string
	// Now is when the answer is read; the zero time is the end of the build.
	Now time.Time
	// Files is how many differing files are listed of each cause; 0 is one.
	Files int
}

// maxEarlier is how many earlier builds are looked at.
const maxEarlier = 200

// Build explains b, which is over.
func Build(b *builds.Build, h History) (*Report, error) {
	if b.Ended.IsZero() {
		return nil, errors.New("the build is not over yet")
	}
	e := &explainer{build: b, history: h, reasons: map[int]*reason{}, index: map[string]int{}}
	if h.Files <= 0 {
		e.history.Files = 1
	}
	if !e.anythingRan() {
		return e.report(), nil
	}
	e.learn()
	for i := range b.Steps {
		if b.Steps[i].Verdict.Ran() {
			e.reason(i)
		}
	}
	return e.report(), nil
}

// explainer is the work on one build.
type explainer struct {
	build   *builds.Build
	history History
	texts   map[string]bool // of the build's instructions
	earlier []*earlier      // the latest first
	closest map[int]int     // how far apart the closest of each group is

	reasons map[int]*reason // by the position of the step
	causes  []*Cause
	index   map[string]int // of causes, by what they are about
}

// reason is why one step was executed.
type reason struct {
	causes []int // positions in explainer.causes
	// via are the steps it stands on that were executed, with what it reads of them.
	via  []Link
	near *Near
	from *earlier // that near is from
}

func (e *explainer) anythingRan() bool {
	for i := range e.build.Steps {
		if ran(&e.build.Steps[i]) {
			return true
		}
	}
	return false
}

// ran tells whether s was executed, to its end or not. One that failed before it was
// known what it reads was not even looked up.
func ran(s *builds.Step) bool { return s.Verdict.Ran() && s.Narrow != "" }

func (e *explainer) now() time.Time {
	if e.history.Now.IsZero() {
		return e.build.Ended
	}
	return e.history.Now
}

// open opens a table; there is none if nobody has them.
func (e *explainer) open(d ocispec.Descriptor) (io.ReadCloser, error) {
	if e.history.Table == nil {
		return nil, fs.ErrNotExist
	}
	return e.history.Table(d)
}
