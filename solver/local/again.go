package local

import (
	"context"
	"errors"
	"fmt"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// Again is an operation whose result is remembered, to be executed once more.
type Again struct {
	Task solver.Task
	// Result is what is remembered, Inputs what it was made from.
	Result solver.Result
	Inputs []solver.RecordedInput
	// Times lets the modification times of files count.
	Times bool
}

// InputError reports that an operation cannot be compared with its earlier result,
// because it would read something else.
type InputError struct{ Name string }

func (e *InputError) Error() string {
	return fmt.Sprintf("%q is not what it was when the result was made", e.Name)
}

// Again executes a, and calls differs with each file that came out otherwise than in
// the result that is remembered; the first error of differs ends it and is returned.
// What is made is not kept, and nothing that is remembered changes. Caches and
// volumes that a RUN mounts are written to as always.
func (w *Worker) Again(ctx context.Context, a Again, out solver.Output, differs func(layer.Difference) error) (err error) {
	base := a.Task.Inputs[0].Layers
	if len(a.Result.Layers) != len(base)+1 {
		return fmt.Errorf("the result has %d layers, and what it was made on %d", len(a.Result.Layers), len(base))
	}
	read, err := w.Narrow(ctx, a.Task)
	if err != nil {
		return err
	}
	for i := range min(len(read), len(a.Inputs)) {
		if was := a.Inputs[i].Read.Digest; was != "" && read[i].Digest != was {
			return &InputError{a.Inputs[i].Name}
		}
	}
	before := append(append([]snapshot.Layer(nil), base...), a.Result.Layers[len(base)])
	ids, err := w.Unpack(ctx, before, out)
	if err != nil {
		return err
	}
	layers, err := w.Execute(ctx, a.Task, read, out)
	if err != nil {
		return err
	}
	made := layers[len(base)].ID
	defer func() { err = errors.Join(err, w.Pool.Remove(made)) }()
	return w.Pool.Deviations(ctx, ids[:len(base)], ids[len(base)], made, a.Times, differs)
}
