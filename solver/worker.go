package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot"
)

// Result describes what a node stands for, without holding it.
type Result struct {
	// ID is its identity, which feeds the keys of whatever comes next.
	ID digest.Digest `json:"id"`
	// Layers make up the filesystem, lowest first.
	Layers []snapshot.Layer `json:"layers,omitempty"`
	// Source is set for what is read but is no filesystem of layers: Local and
	// Inline. Such results are never recorded.
	Source Op `json:"-"`
}

// Task is a node whose inputs have results.
type Task struct {
	Node   Node
	Inputs []Result
}

// Identity is what an operation reads of one input.
type Identity struct {
	// Digest identifies exactly what is read; empty means the whole input.
	Digest digest.Digest `json:"digest,omitempty"`
	// Parts are blobs that list what the digest was made of, so that a miss can be
	// explained. The worker makes and reads them; a record only refers to them, and
	// nothing else needs them.
	Parts []ocispec.Descriptor `json:"parts,omitempty"`
	// Memo is the worker's own: Execute gets it back.
	Memo any `json:"-"`
}

// Output is where an executing operation reports.
type Output interface {
	io.Writer // what the command prints
	// Progress reports current of total units (bytes; total 0 if unknown) of item.
	Progress(item string, current, total int64)
}

// Worker identifies inputs and executes operations. It is called from many
// goroutines at once.
type Worker interface {
	// Narrow identifies exactly what t reads of each of its inputs, one Identity
	// for each, in order; nil if it reads all of all of them. It must not depend
	// on anything but t's operation and the content of its inputs. It is called for
	// every build that reads a live source, so it is no place to make Parts.
	Narrow(ctx context.Context, t Task) ([]Identity, error)

	// Execute does the operation and returns its layers. read is what Narrow
	// returned, in which it sets the Parts that Narrow left out; if the inputs are not what they were then, the error is
	// ErrChanged and nothing is kept. On an error or when ctx ends, nothing of
	// the operation is left, no process and no file.
	Execute(ctx context.Context, t Task, read []Identity, out Output) ([]snapshot.Layer, error)

	// Fetch identifies and fetches a live source that lies elsewhere (HTTP,
	// Git).
	Fetch(ctx context.Context, op Op, out Output) (Result, error)

	// Has tells whether r can still be used. What cannot was never remembered.
	Has(ctx context.Context, r Result) bool
}

// Foreseer is a Worker that may know what an operation reads of results that are not
// here.
type Foreseer interface {
	// Foresee is Narrow for a task that reads parts of the results of others, but fetches
	// and makes nothing. It is false if that cannot be told, or if Narrow would not have
	// to fetch anything either.
	Foresee(ctx context.Context, t Task) ([]Identity, bool)
}

// ErrChanged reports that an input changed between its identification and its use.
var ErrChanged = errors.New("input changed while it was being read")

// Error is a node's failure.
type Error struct {
	Node Node
	Err  error
}

func (e *Error) Error() string {
	if e.Node.Pos.First == 0 {
		return fmt.Sprintf("%s: %v", e.Node.Name, e.Err)
	}
	return fmt.Sprintf("%s:%d: %s: %v", e.Node.Pos.File, e.Node.Pos.First, e.Node.Name, e.Err)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Status is what happened to a node.
type Status int

// A node's life: Started, then Output and Progress any number of times, then
// Done, Failed or Canceled; or Cached alone.
const (
	Started Status = iota
	Cached
	Done
	Failed
	Canceled
	OutputWritten
	Progressed
)

var statusNames = [...]string{"started", "cached", "done", "failed", "canceled", "output", "progress"}

func (s Status) String() string { return statusNames[s] }

// Event reports what happened to a node.
type Event struct {
	Time   time.Time
	Node   ID
	Status Status
	// Log is what the node printed (OutputWritten). It is the receiver's to keep.
	Log []byte
	// Item, Current and Total are a progress (Progressed).
	Item           string
	Current, Total int64
	// Err is why the node failed.
	Err error
}
