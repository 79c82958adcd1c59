package explain

import (
	"time"
)

// Report says why steps of a build were executed. It is a stable format: fields are
// added, but never change their meaning.
type Report struct {
	// Build is the ID of the build.
	Build string `json:"build"`
	// Executed and Cached count its steps: those that do something, and were needed.
	Executed int `json:"executed"`
	Cached   int `json:"cached"`
	// Causes are what it comes down to, each once, in the order of the Dockerfile.
	Causes []Cause `json:"causes"`
	// Steps are all that were executed.
	Steps []Explained `json:"steps"`
	// Notes are about caches that could have had the steps.
	Notes []string `json:"notes,omitempty"`

	failed bool // the build was
}

// Step is a step of the build, as people know it.
type Step struct {
	// Number is that of "lamina builds show".
	Number int `json:"number"`
	// Label is its stage and number, "build 3/7".
	Label string `json:"label,omitempty"`
	// Text is its instruction, with variables expanded.
	Text string `json:"text"`
	// Line is where it begins in the Dockerfile, 0 if it is not from there.
	Line int `json:"line,omitempty"`
}

// Cause is something that made steps be executed.
type Cause struct {
	Kind Kind `json:"kind"`
	// Step is where it is: the first step that it made be executed, or what that
	// stands on (a FROM, an instruction that is new before it).
	Step Step `json:"step"`
	// Subject is what changed, by the name that its Kind says, if it has any.
	Subject string `json:"subject,omitempty"`
	// Line is where in the Dockerfile the subject is set, if it is.
	Line int `json:"line,omitempty"`
	// Before and After are its values; one is empty if it is new or gone.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Files are the files that differ, the first of them, and More how many there are
	// besides.
	Files []File `json:"files,omitempty"`
	More  int    `json:"more,omitempty"`
	// When is the time of what happened, if that is known: of an eviction.
	When time.Time `json:"when,omitzero"`
	// Near is what the step was compared with.
	Near *Near `json:"near,omitempty"`
	// Text says all this in a sentence.
	Text string `json:"text"`
	// Executed are the steps that were executed because of it, in the build's order.
	Executed []Step `json:"executed"`

	all bool // it is that of all steps: nothing was built before
}

// Kind is what sort of thing a cause is.
type Kind string

// The kinds of causes, with their Subject.
const (
	Files    Kind = "files"    // files that a step reads are others
	Arg      Kind = "arg"      // a build argument
	Env      Kind = "env"      // a variable of the environment
	Base     Kind = "base"     // the base image: its name
	Platform Kind = "platform" // the platform that is built for
	URL      Kind = "url"      // the content of a URL: the URL
	Commit   Kind = "commit"   // what a name in a Git repository stands for: the repository
	Text     Kind = "text"     // the instruction
	Option   Kind = "option"   // an option of an instruction or of the build: its name
	Mount    Kind = "mount"    // a mount of a RUN: its target
	Secret   Kind = "secret"   // a secret or an agent that a RUN gets: its target or variable
	Inserted Kind = "inserted" // an instruction that was not there before the step
	Removed  Kind = "removed"  // one that is not there any more
	Moved    Kind = "moved"    // one that is on the other side of the step now
	Parent   Kind = "parent"   // what it stands on is something else
	New      Kind = "new"      // nothing like it was built
	Evicted  Kind = "evicted"  // its record was removed: by whom
	Gone     Kind = "gone"     // its record is not there any more
	Lost     Kind = "lost"     // its record is there, but not its layer
	Absent   Kind = "absent"   // a cache knows the step, but not what it made
	Failed   Kind = "failed"   // it did not succeed in an earlier build either
	NoCache  Kind = "no-cache" // it was asked for: the option
	Unknown  Kind = "unknown"  // nothing is known that differs
)

// File is a file that differs.
type File struct {
	Path string `json:"path"`
	// Change is "new", "removed", or what differs: "content", "target" (of a link),
	// "attributes", "mode", "owner" or "type", several separated by ", ".
	Change string `json:"change"`
	// Before and After are the modes, owners or types, if the Change is one of these.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Near is the nearest earlier step.
type Near struct {
	// Build is the ID of its build, Cache the name of the cache that it is from.
	Build string    `json:"build,omitempty"`
	Cache string    `json:"cache,omitempty"`
	When  time.Time `json:"when,omitzero"`
	Step  Step      `json:"step"`
}

// Explained is a step that was executed.
type Explained struct {
	Step
	// Near is what it was compared with, if there was anything.
	Near *Near `json:"near,omitempty"`
	// Causes are positions in Report.Causes.
	Causes []int `json:"causes"`
	// Via are the steps it stands on that were executed too and that its causes are
	// from.
	Via []Link `json:"via,omitempty"`
}

// Link leads from a step to one that it stands on.
type Link struct {
	// Step is the number of the other.
	Step int `json:"step"`
	// Files are the files of it that the step reads and that differ, More how many
	// besides.
	Files []File `json:"files,omitempty"`
	More  int    `json:"more,omitempty"`
}
