package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cmd/lamina/internal/progress"
	"lamina/solver"
)

// Steps is a progress display, and the steps of a build that are no nodes of
// its graph: loading, exporting, pushing.
type Steps struct {
	progress.Display
	Mode progress.Mode // as it was asked for
	// Observe, if set, is told, too, of what is no step of a graph, but not of bytes.
	Observe  func(progress.Event)
	next     atomic.Int64
	transfer func(d ocispec.Descriptor, done int64)

	mu      sync.Mutex
	current *Step // gets the bytes of transfers
}

// NewSteps returns a display in the form that mode names, or else BUILDKIT_PROGRESS,
// with action as the word for what goes on; quiet shows only what fails. The caller
// must close it.
func NewSteps(e *Env, mode string, quiet bool, action string) (*Steps, error) {
	if mode == "" {
		const variable = "BUILDKIT_PROGRESS"
		mode = e.Getenv(variable)
		if err := progress.Mode(mode).Check(); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", variable, mode, err)
		}
	}
	if quiet {
		mode = string(progress.Quiet)
	}
	d, err := progress.New(progress.Mode(mode), e.Stderr, progress.Options{
		Getenv: e.Getenv, Action: action, Log: e.Logger(),
	})
	if err != nil {
		return nil, err
	}
	s := &Steps{Display: d, Mode: progress.Mode(mode)}
	s.transfer = func(d ocispec.Descriptor, done int64) {
		s.mu.Lock()
		step := s.current
		s.mu.Unlock()
		if step != nil {
			step.Bytes("sha256:"+d.Digest.Encoded()[:12], done, d.Size)
		}
	}
	return s, nil
}

// tell shows an event that is none of a graph.
func (s *Steps) tell(e progress.Event) {
	s.Event(e)
	if s.Observe != nil {
		s.Observe(e)
	}
}

// Step is one step outside the graph.
type Step struct {
	steps *Steps
	id    string
	over  bool
}

// Begin starts a step.
func (s *Steps) Begin(name string) *Step {
	st := &Step{steps: s, id: fmt.Sprintf("step-%d", s.next.Add(1))}
	s.tell(progress.Event{Step: st.id, Name: name, Kind: progress.Start})
	return st
}

// Transfers begins a step that shows what is sent to and fetched from registries
// until it ends.
func (s *Steps) Transfers(name string) *Step {
	st := s.Begin(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = st
	return st
}

// Bytes shows that done of total bytes of item are moved.
func (st *Step) Bytes(item string, done, total int64) {
	st.steps.Event(progress.Event{Step: st.id, Kind: progress.Bytes, Item: item, Current: done, Total: total})
}

// Say shows a line of text as the step's output.
func (st *Step) Say(line string) {
	st.steps.tell(progress.Event{Step: st.id, Kind: progress.Log, Log: []byte(line + "\n")})
}

// Write shows what a command of the step prints.
func (st *Step) Write(p []byte) (int, error) {
	st.steps.Event(progress.Event{Step: st.id, Kind: progress.Log, Log: slices.Clone(p)})
	return len(p), nil
}

// Progress is Bytes: it makes a step the output of an operation.
func (st *Step) Progress(item string, current, total int64) { st.Bytes(item, current, total) }

// End ends the step; err is why it failed, if it did. Once it is over, that it
// ends again means nothing.
func (st *Step) End(err error) {
	if st.over {
		return
	}
	st.over = true
	s := st.steps
	s.mu.Lock()
	if s.current == st {
		s.current = nil
	}
	s.mu.Unlock()
	e := progress.Event{Step: st.id, Kind: progress.Done}
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind = progress.Canceled
	case err != nil:
		e.Kind, e.Err = progress.Failed, err
	}
	s.tell(e)
}

// Warn shows a warning that belongs to no step.
func (s *Steps) Warn(text string) {
	s.tell(progress.Event{Kind: progress.Warning, Log: []byte(strings.TrimRight(text, "\n"))})
}

// Solving returns what shows the events of solving g.
func (s *Steps) Solving(g *solver.Graph) func(solver.Event) {
	kinds := map[solver.Status]progress.Kind{
		solver.Started: progress.Start, solver.Cached: progress.Cached, solver.Done: progress.Done,
		solver.Failed: progress.Failed, solver.Canceled: progress.Canceled,
		solver.OutputWritten: progress.Log, solver.Progressed: progress.Bytes,
	}
	return func(e solver.Event) {
		s.Event(progress.Event{
			Time: e.Time, Step: fmt.Sprintf("node-%d", e.Node), Name: g.Nodes[e.Node].Name, Kind: kinds[e.Status],
			Log: e.Log, Item: e.Item, Current: e.Current, Total: e.Total, Err: e.Err,
		})
	}
}
