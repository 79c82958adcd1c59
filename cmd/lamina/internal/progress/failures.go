package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// rule encloses the output of a failed step.
const rule = "------"

// writeFailure writes the name of a failed step and its output.
func writeFailure(w io.Writer, name string, output io.WriterTo) {
	fmt.Fprintf(w, "%s\n > %s:\n", rule, name)
	output.WriteTo(w)
	fmt.Fprintln(w, rule)
}

// transcript is the output of one step, each line with its time.
type transcript struct {
	name    string
	started time.Time
	lines   lines
	kept    spool
	tail    recent // the last lines as they are, no more of each than can be shown
}

// event takes what e says. It keeps the output of a step only until the step
// has ended well.
func (t *transcript) event(e Event) {
	if e.Name != "" {
		t.name = e.Name
	}
	if t.started.IsZero() {
		t.started = e.at()
	}
	switch {
	case e.Kind == Log:
		t.lines.write(e.at(), e.Log, t.keep)
	case e.Kind == Failed:
		t.lines.flush(t.keep)
	case e.Kind.ends():
		t.kept.Close()
	}
}

func (t *transcript) keep(at time.Time, line []byte) {
	fmt.Fprintf(&t.kept, "%s %s\n", stamp(at.Sub(t.started)), line)
	t.tail.add(lastBytes(line))
}

// quiet shows nothing but the steps that failed, with all of their output.
type quiet struct {
	w io.Writer

	mu     sync.Mutex
	steps  map[string]*transcript
	failed []*transcript
	closed bool
}

func newQuiet(w io.Writer) *quiet { return &quiet{w: w, steps: map[string]*transcript{}} }

func (q *quiet) Event(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.steps[e.Step]
	if t == nil {
		t = &transcript{}
		q.steps[e.Step] = t
	}
	t.event(e)
	if e.Kind == Failed {
		q.failed = append(q.failed, t)
	}
}

func (q *quiet) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	for _, t := range q.failed {
		if !t.kept.empty() {
			writeFailure(q.w, t.name, &t.kept)
		}
	}
	for _, t := range q.steps {
		t.kept.Close()
	}
}
