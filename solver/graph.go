// Package solver computes what a build asks for: a graph of layer operations is
// solved in parallel, each operation at most once, and never when an earlier
// build, by any process, already did the same thing to the same inputs.
//
// It knows nothing of Dockerfiles, filesystems or networks. A frontend makes a
// [Graph]; a [Worker] identifies inputs and executes operations; a cache.Index
// remembers. The rule that carries the design: inputs are identified before they
// are materialised, so that a cached build touches nothing.
package solver

import "fmt"

// ID is the position of a node in its graph.
type ID int

// Pos is where in a Dockerfile a node comes from: lines first to last, from 1.
// The zero Pos means that no line stands behind the node.
type Pos struct {
	File  string `json:"file,omitempty"`
	First int    `json:"first,omitempty"`
	Last  int    `json:"last,omitempty"`
}

// Node is an operation and the results it applies to.
type Node struct {
	Op     Op
	Inputs []ID
	// Name and Pos are for people and never reach a key.
	Name string // "[build 3/7] RUN make"
	Pos  Pos
	// NoCache executes the node even if its result is remembered.
	NoCache bool
	// Uses are the variables that the instruction saw, for people too.
	Uses []Variable
}

// Variable is a variable of a Dockerfile as an instruction saw it.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Arg says that it is a build argument, and not of the environment.
	Arg bool `json:"arg,omitempty"`
	// Line is where the Dockerfile sets it last, from 1; 0 if it does not.
	Line int `json:"line,omitempty"`
	// From names the build arguments that its value was expanded from, directly or not.
	From []string `json:"from,omitempty"`
}

// Graph is nodes in an order in which every node comes after its inputs; it has
// no cycles by construction. The zero Graph is empty and ready to use.
type Graph struct {
	Nodes []Node
	same  map[string]ID
}

// Add appends n and returns its ID. A node equal to an earlier one in operation
// and inputs is that node: equal operations are done once, across stages and
// platforms. It panics if an input is not in the graph yet.
func (g *Graph) Add(n Node) ID {
	for _, in := range n.Inputs {
		if in < 0 || int(in) >= len(g.Nodes) {
			panic(fmt.Sprintf("solver: node %q refers to node %d, which is not in the graph yet", n.Name, in))
		}
	}
	key := identity(n)
	if id, ok := g.same[key]; ok {
		return id
	}
	if g.same == nil {
		g.same = map[string]ID{}
	}
	id := ID(len(g.Nodes))
	g.Nodes = append(g.Nodes, n)
	g.same[key] = id
	return id
}

func identity(n Node) string {
	return string(encode(struct {
		Kind    string
		Op      Op
		Inputs  []ID
		NoCache bool
	}{n.Op.kind(), n.Op, n.Inputs, n.NoCache}))
}
