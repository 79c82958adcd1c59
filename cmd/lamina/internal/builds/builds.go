// Package builds remembers the builds of a store: what each was asked for, what
// became of each of its steps and why, and what the steps printed.
//
// A build is remembered so that it can be explained later: its steps keep all that
// went into their keys, by name. Nothing else needs it, and anything here may be
// deleted at any time.
package builds

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/solver"
)

// Build is one run of "lamina build".
type Build struct {
	Version int `json:"v"`
	// ID is unique in the store, and later builds have greater ones.
	ID string `json:"id"`

	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Status  Status    `json:"status"`
	// Error is why it failed, as it was told.
	Error string `json:"error,omitempty"`

	// Context is the directory, URL or "-" that was built, Dockerfile the path or
	// URL of the file; directories are absolute. Together with Targets they tell
	// which builds are of the same thing.
	Context    string   `json:"context"`
	Dockerfile string   `json:"dockerfile"`
	Targets    []string `json:"targets,omitempty"`
	Platforms  []string `json:"platforms,omitempty"`
	// Names are those that the images are to have, with registry and tag.
	Names []string `json:"names,omitempty"`
	// Args are the build arguments that were given.
	Args map[string]string `json:"args,omitempty"`
	// NoCache says that all steps were to be executed, NoCacheFilter those of which
	// stages.
	NoCache       bool     `json:"noCache,omitempty"`
	NoCacheFilter []string `json:"noCacheFilter,omitempty"`
	// Caches are the places that --cache-from named, in its order; Step.From refers to
	// them.
	Caches []Cache `json:"caches,omitempty"`

	// Imported are steps as those caches know them, whichever came nearest to steps that
	// were executed; From says of which cache they are, and Started when they were made.
	Imported []Step `json:"imported,omitempty"`

	// Images are what came of it: digests of manifests or indexes, with their names.
	Images []Image `json:"images,omitempty"`
	// Steps are the nodes of the build's graph, in its order: inputs come first.
	Steps []Step `json:"steps,omitempty"`
	// Phases are what it did besides, in the order in which that began.
	Phases []Phase `json:"phases,omitempty"`

	// Warnings are what was warned of while it was done.
	Warnings []string `json:"warnings,omitempty"`
	// LogEnds says why the log is not whole, if it is not.
	LogEnds string `json:"logEnds,omitempty"`
}

// Cache is a place that steps were looked up in besides the store.
type Cache struct {
	Name string `json:"name"` // as --cache-from gave it
	// Steps is how many it had.
	Steps int `json:"steps,omitempty"`
	// Error is why it was not used.
	Error string `json:"error,omitempty"`
}

// Image is an image that a build made.
type Image struct {
	// Digest is that of the manifest or index, ID what the image is known by: the
	// digest of its configuration, or of the index.
	Digest digest.Digest `json:"digest"`
	ID     digest.Digest `json:"id,omitempty"`
	Names  []string      `json:"names,omitempty"`
}

// Phase is something that a build did and that is no operation of its graph: it found
// out what a base image is, packed and sent an image, wrote a cache.
type Phase struct {
	Name    string        `json:"name"` // "exporting to image"
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took,omitempty"`
	// Status is Running, or how it ended.
	Status Status   `json:"status"`
	Error  string   `json:"error,omitempty"`
	Said   []string `json:"said,omitempty"` // lines
}

// Status is how a build ended.
type Status string

// A build's states.
const (
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
	// Killed is of one whose process ended without a word. It is never stored:
	// nobody was left to do it.
	Killed Status = "killed"
)

// Step is one operation of a build, and all that its key was made of.
type Step struct {
	Name string          `json:"name"` // "[build 3/7] RUN make"
	Pos  solver.Pos      `json:"pos,omitzero"`
	Kind string          `json:"kind"`
	Op   json.RawMessage `json:"op"`
	// Inputs has an entry for each of the operation's inputs.
	Inputs []Input `json:"inputs,omitempty"`
	// Uses are the variables of the Dockerfile that the instruction saw: expanded in
	// its text, or part of a RUN's environment.
	Uses []solver.Variable `json:"uses,omitempty"`

	// Whole is the key over the whole inputs, Narrow that over what is read of them;
	// empty if the build did not come to know it.
	Whole  cache.Key `json:"whole,omitempty"`
	Narrow cache.Key `json:"narrow,omitempty"`
	// ID is the identity of the result, once that is known.
	ID      digest.Digest  `json:"result,omitempty"`
	Verdict solver.Verdict `json:"verdict"`
	// From is where a cached result was found: a position in Build.Caches counted
	// from 1, or 0 for the store.
	From int `json:"from,omitempty"`
	// Lost says that the step was remembered but that its layers were gone, Absent that
	// a cache told the identity of its result alone.
	Lost   bool `json:"lost,omitempty"`
	Absent bool `json:"absent,omitempty"`
	// NoCache says that it was executed without being looked up.
	NoCache bool `json:"noCache,omitempty"`

	Started time.Time     `json:"started,omitzero"`
	Took    time.Duration `json:"took,omitempty"`
	// Log is the number of bytes that it printed.
	Log   int64  `json:"log,omitempty"`
	Error string `json:"error,omitempty"`
}

// Input is one input of a step.
type Input struct {
	// Step is the position of the step that makes it.
	Step int           `json:"step"`
	ID   digest.Digest `json:"id,omitempty"` // unless it is live or was not known
	// Name is that of the step that makes it, if it is not a step of the build.
	Name string `json:"name,omitempty"`
	// Read is what is read of it, if not everything; its Parts list the files.
	Read solver.Identity `json:"read,omitzero"`
}

// A step of a running build has a verdict of the solver's, or one of these: the build
// has not come to it yet, or it is being executed.
const (
	Pending   solver.Verdict = ""
	Executing solver.Verdict = "running"
)
