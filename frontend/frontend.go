// Package frontend turns a Dockerfile into what a build has to do: a graph of
// layer operations, and for every target the image configuration that goes
// with its root.
//
//	file, err := frontend.Parse("Dockerfile", src)             // syntax
//	build, err := frontend.Lower(ctx, file, resolver, options) // meaning
//	results, err := solver.Solve(ctx, build.Graph, …)          // work
//
// Lower is a pure function of its arguments and of the resolver's answers: it
// reads no file and runs nothing. Instructions that only describe the image
// (ENV, LABEL, CMD, …) fold into its configuration; FROM, RUN, COPY, ADD and
// WORKDIR become nodes. Stages that no target needs are neither resolved nor
// lowered. The language is that of BuildKit's Dockerfile frontend 1.26, and what
// this package does not know of it is refused with its line, never ignored.
package frontend

import (
	"context"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/snapshot"
	"lamina/solver"
)

// Resolver finds base images.
type Resolver interface {
	// Resolve describes the image that ref names for p. It is called once for
	// each image and platform that a target needs, by several goroutines at
	// once, and should pull no layer.
	Resolve(ctx context.Context, ref string, p ocispec.Platform) (Base, error)
}

// Base is an image to build on.
type Base struct {
	// Ref is the image's full name, "docker.io/library/debian:12".
	Ref string
	// Digest is that of the manifest for the platform asked for.
	Digest digest.Digest
	Config dockerspec.DockerOCIImage
	// Layers are lowest first.
	Layers []snapshot.Layer
}

// Options are what a build's command line says about its meaning.
type Options struct {
	// Platforms are those to build for; none means BuildPlatform, or whatever
	// the base image is for.
	Platforms []ocispec.Platform
	// BuildPlatform is this machine's.
	BuildPlatform ocispec.Platform
	// Targets are names or indices of stages; none means the last stage.
	Targets []string
	// BuildArgs are values for ARG.
	BuildArgs map[string]string
	// ContextOwners tells that files of the build context belong to somebody. Those
	// of a directory do not: their owners mean nothing in an image.
	ContextOwners bool
	// Contexts stand for stages and images of these names; see [ContextName].
	Contexts map[string]Context
	// Labels are added to every target's image.
	Labels map[string]string

	// NoCache executes everything anew; NoCacheFilter does so for these stages.
	NoCache       bool
	NoCacheFilter []string

	// Network is that of every RUN which names none: "", "none" or "host".
	Network  string
	Hostname string
	Hosts    []string // "name=address"
	ShmSize  int64    // bytes; 0 is the default
	Ulimits  []string // "name=soft[:hard]"

	// Mounts are those that every RUN has besides its own: volumes.
	Mounts []solver.RunMount
	// Allow is what a RUN may ask for beyond the usual.
	Allow Allow

	// Ignored tells whether the ignore file excludes a path of the build context
	// as an instruction names it, for the check CopyIgnoredFile. Nil: nothing.
	Ignored func(source string) bool

	// Epoch is SOURCE_DATE_EPOCH in Unix seconds, unless BuildArgs has it.
	Epoch *int64
	// ContextTime, in Unix seconds, is what SOURCE_DATE_EPOCH=context stands for. It
	// is nil if the context is from no particular time, as a directory is.
	ContextTime *int64
}

// Allow lists powers that a RUN has only if whoever builds grants them.
type Allow struct {
	NetworkHost bool // RUN --network=host
	Insecure    bool // RUN --security=insecure
}

// Build is a lowered Dockerfile.
type Build struct {
	Graph *solver.Graph
	// Targets are in the order of Options.Targets and, within one, Options.Platforms.
	Targets []Target
	// Copied are the ends of the stages that any instruction of the file reads, whether or
	// not that is a part of this build.
	Copied []solver.ID
	// Warnings are what the checks found, in the order in which they did.
	Warnings []Warning
	// Notes say what else of the build's options or the file has no effect.
	Notes []string
	// Epoch is the SOURCE_DATE_EPOCH in force, from wherever it came.
	Epoch *int64
}

// Target is an image to make.
type Target struct {
	// Stage is the stage's name, or its index if it has none.
	Stage    string
	Platform ocispec.Platform
	Root     solver.ID
	// Config is the image's configuration. Its history is the base image's, and
	// it has no diff IDs: what this build adds is in History.
	Config  dockerspec.DockerOCIImage
	History []History
}

// EmptyLayer is the Node of a [History] entry that has no layer.
const EmptyLayer solver.ID = -1

// History is one entry of an image's history (OCI image-spec, config.md,
// "history").
type History struct {
	CreatedBy string
	Comment   string
	// Node is what may have made a layer, or [EmptyLayer]. Whether it did is
	// known once it is solved: a WORKDIR that exists makes none.
	Node solver.ID
}

// Warning is something legal that is probably not meant.
type Warning struct {
	Pos solver.Pos
	// Rule is the name of the check, "UndefinedVar", Description what it is
	// about, and URL a page that explains it, if there is one.
	Rule, Description, URL string
	// Text is what is wrong here.
	Text string
}

// Lower says what has to be done to build the targets of f.
//
// An error is a context's, or an [ErrorList] with everything that is wrong in
// the stages that the targets need.
func Lower(ctx context.Context, f *File, r Resolver, opt Options) (*Build, error) {
	w := newWork(f, r, opt)
	if err := w.prepare(); err != nil {
		return nil, w.errors.add(solver.Pos{File: f.Name}, err).sorted()
	}
	build := &Build{Graph: w.graph}
	for _, name := range w.opt.Targets {
		for i, p := range w.opt.platforms() {
			w.quiet = i > 0
			l := w.newLowering(p)
			target := l.lower(ctx, name)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if target != nil {
				build.Targets = append(build.Targets, l.result(target))
				build.Copied = append(build.Copied, l.copied()...)
			}
		}
	}
	w.finish()
	if len(w.errors) > 0 {
		return nil, w.errors.sorted()
	}
	build.Warnings, build.Notes, build.Epoch = w.warnings, w.notes(), w.epoch
	return build, nil
}
