package frontend

import "lamina/solver"

// Nodes returns every node that may have made a layer of a target, with what it
// was made on, and the targets' roots, each once: what must be solved to know the
// images' histories.
func (b *Build) Nodes() []solver.ID {
	var all []solver.ID
	seen := map[solver.ID]bool{}
	add := func(id solver.ID) {
		if !seen[id] {
			seen[id] = true
			all = append(all, id)
		}
	}
	for _, t := range b.Targets {
		for _, h := range t.History {
			if h.Node != EmptyLayer {
				add(b.Graph.Nodes[h.Node].Inputs[0])
				add(h.Node)
			}
		}
		add(t.Root)
	}
	return all
}
