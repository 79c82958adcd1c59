package collect

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// The lists of what its steps read are kept as long as a build is remembered.
func TestPruneKeepsWhatBuildsReferTo(t *testing.T) {
	w := newWorld(t)
	table := w.blob("table", "a 1\nb 2\n")
	other := w.blob("table", "of nobody")
	graph := &solver.Graph{}
	node := graph.Add(solver.Node{Op: solver.Run{}, Inputs: []solver.ID{graph.Add(solver.Node{Op: solver.Local{}})}})
	remembered := builds.In(w.store)
	recording, err := remembered.Begin(builds.Build{})
	w.must(err)
	recording.Solving(graph, []solver.ID{node}, nil)
	read := solver.Identity{Digest: digest.FromString("read"), Parts: []ocispec.Descriptor{table}}
	recording.Traced(graph, []solver.Trace{{}, {Node: node, Inputs: []solver.RecordedInput{{Read: read}}}}, nil)
	w.must(recording.End(builds.Succeeded, nil, nil))

	kept := func() (all []digest.Digest) {
		for _, d := range []ocispec.Descriptor{table, other} {
			ok, err := w.store.Has(t.Context(), d)
			w.must(err)
			if ok {
				all = append(all, d.Digest)
			}
		}
		return all
	}
	_, err = Prune(t.Context(), w.store, PruneOptions{})
	w.must(err)
	if got := kept(); !slices.Equal(got, []digest.Digest{table.Digest}) {
		t.Errorf("kept %v, want %v", got, table.Digest)
	}
	w.must(remembered.Remove(recording.ID()))
	_, err = Prune(t.Context(), w.store, PruneOptions{})
	w.must(err)
	if got := kept(); len(got) != 0 {
		t.Errorf("kept %v of a build that is not remembered", got)
	}
}
