// Package engine wires the parts of lamina together: the store, the pool of
// unpacked layers, registries, and what runs processes. Commands share it; it
// decides nothing that a user could see but how images are found (see Resolve).
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/registry"
	"lamina/exporter/archive"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/native"
	"lamina/snapshot/overlay"
	"lamina/solver/local"
)

// SumsFile is the file of the store that remembers the digests of files.
const SumsFile = "sums"

// Engine is a store and everything that works on it.
type Engine struct {
	Store    *cache.Store
	Pool     *layer.Pool
	Registry *registry.Client
	// Blobs are those of the store and those that can be fetched into it.
	Blobs *cache.Lazy

	log    *slog.Logger
	driver func() (snapshot.Driver, error)
	runner func() (runner.Runner, error)

	layoutMu sync.Mutex
	layouts  map[string]*archive.Archive // by directory
}

// Options are an Engine's.
type Options struct {
	Root   string
	Getenv func(string) string
	Log    *slog.Logger
	// Insecure lists registries that may speak plain HTTP, or show any certificate.
	Insecure []string
	// Progress is told about bytes to and from registries.
	Progress cache.Progress
	// Warn is told what goes on that is not as it should be.
	Warn func(text string)
}

// Open opens the store at opt.Root, which it makes if there is none, and claims
// it until Close: nothing in it is removed meanwhile.
func Open(ctx context.Context, opt Options) (*Engine, error) {
	store, err := cache.Open(opt.Root)
	if err != nil {
		return nil, err
	}
	if err := store.Use(ctx); err != nil {
		store.Close()
		return nil, err
	}
	pool, err := layer.OpenPool(store.Path("layers"), store.Temp)
	if err != nil {
		store.Close()
		return nil, err
	}
	e := &Engine{
		Store: store, Pool: pool, log: opt.Log,
		Registry: registry.New(registry.Options{
			Getenv: opt.Getenv, Log: opt.Log, Progress: opt.Progress, UserAgent: "lamina",
			Insecure: opt.Insecure,
			Waiting:  waiting(opt.Warn),
		}),
	}
	e.Blobs = &cache.Lazy{Store: store, Remote: e.openOrigin}
	e.driver = sync.OnceValues(e.openDriver)
	e.runner = sync.OnceValues(e.openRunner)
	if err := e.sweep(ctx); err != nil {
		e.log.Warn("what a killed lamina ran could not be removed", "error", err)
	}
	return e, nil
}

// sweep removes the containers of killed processes. Usually there are none, and
// nothing else is asked of a machine that perhaps cannot run any.
func (e *Engine) sweep(ctx context.Context) error {
	left, err := os.ReadDir(e.Store.Path("containers"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || len(left) == 0 {
		return err
	}
	r, err := e.Runner()
	if err != nil {
		return nil // it was another user's business, or another machine's
	}
	return r.Sweep(ctx)
}

// patience is how long something may be waited for without a word.
const patience = time.Second

// waiting tells warn that a registry is given time to recover.
func waiting(warn func(string)) func(error, time.Duration) {
	return func(err error, wait time.Duration) {
		if warn != nil && wait >= patience {
			warn(fmt.Sprintf("%v; trying again in %v", err, wait.Round(time.Second)))
		}
	}
}

// Close gives back what Open took.
func (e *Engine) Close() error { return errors.Join(e.closeLayouts(), e.Store.Close()) }

// Driver returns what makes filesystems of layers: overlay where this machine
// has it, copies otherwise.
func (e *Engine) Driver() (snapshot.Driver, error) { return e.driver() }

// Runner returns what runs processes. An error says why nothing can be run here.
func (e *Engine) Runner() (runner.Runner, error) { return e.runner() }

func (e *Engine) openDriver() (snapshot.Driver, error) {
	driver, err := overlay.New(e.Pool, e.Store.Temp)
	if err != nil {
		e.log.Info("overlay cannot be used, files are copied", "reason", err)
		return native.New(e.Pool, e.Store.Temp), nil
	}
	return driver, nil
}

func (e *Engine) openRunner() (runner.Runner, error) {
	if err := runner.Supported(); err != nil {
		return nil, err
	}
	return runner.New(runner.Options{State: e.Store.Path("containers"), Log: e.log})
}

// Settle begins to make the layers of this process survive a power failure, beside
// what else there is to do, and returns what waits for that.
func (e *Engine) Settle() (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Pool.Sync(); err != nil {
			e.log.Warn("layers could not be synced to the disk", "error", err) // a loss only if power fails
		}
	}()
	return func() { <-done }
}

// repository returns the blobs of a repository ("registry/path") or of a layout.
func (e *Engine) repository(origin string) (cache.Blobs, error) {
	if dir, ok := strings.CutPrefix(origin, LayoutPrefix); ok {
		return e.layout(dir)
	}
	name, err := registry.ParseName(origin)
	if err != nil {
		return nil, err
	}
	return e.Registry.Repository(name)
}

// Worker returns what performs build operations; c says the rest.
func (e *Engine) Worker(c local.Config) *local.Worker {
	c.Store, c.Blobs, c.Pool, c.Driver, c.Runner = e.Store, e.Blobs, e.Pool, e.Driver, e.Runner
	return local.New(c)
}

// from is the blobs that can be had, where those that are not known yet are in
// repository origin: reading an image through it teaches the store where its
// parts are.
type from struct {
	*cache.Lazy
	origin string
}

func (f from) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	ok, err := f.Store.Has(ctx, d)
	return ok, errors.Join(err, f.learn(ok, d))
}

func (f from) learn(ok bool, d ocispec.Descriptor) error {
	if ok {
		return nil
	}
	return f.Store.AddOrigin(d.Digest, f.origin)
}

// UseOnly gives up the claim on the whole store, but for what the container spec is shown of
// it: one that runs for days keeps nobody from collecting the rest. Nothing else may
// be asked of the engine from then on but to be closed.
func (e *Engine) UseOnly(by string, spec runner.Spec) error {
	claim := cache.Claim{By: by}
	mounts := append(slices.Clone(spec.Mounts), spec.Root...)
	for _, root := range spec.Roots {
		mounts = append(mounts, root...)
	}
	for _, m := range mounts {
		sources := []string{m.Source}
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "lowerdir+="); ok {
				sources = append(sources, dir)
			}
		}
		for _, source := range sources {
			within, err := filepath.Rel(e.Store.Path(), source)
			if parts := strings.Split(within, "/"); err == nil && len(parts) > 1 && parts[0] != ".." {
				claim.Paths = append(claim.Paths, filepath.Join(parts[0], parts[1]))
			}
		}
	}
	return e.Store.UseOnly(claim)
}
