package explain

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cmd/lamina/internal/builds"
	"lamina/frontend"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// world is a machine on which Dockerfiles are built for show: the frontend and the
// solver are the real ones, but nothing is executed. It remembers records, builds and
// tables.
type world struct {
	t       *testing.T
	files   map[string]string // of the context: content, after "MODE " if that is not 0644
	images  map[string]string // by name: what their digests are made of
	remote  map[string]string // by URL
	fail    map[string]error  // by the last argument of RUNs
	lost    map[snapshot.ID]bool
	evicted map[cache.Key]time.Time

	mu     sync.Mutex
	index  map[cache.Key][]byte
	blobs  map[digest.Digest][]byte
	builds []*builds.Build // the latest first
	layers int
	clock  time.Time
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, files: map[string]string{"src/a.go": "a", "src/b.go": "b", "docs/x.md": "x"},
		images: map[string]string{"debian:12": "bookworm", "debian:13": "trixie"},
		remote: map[string]string{"http://example.com/f": "f", "https://example.com/r.git": "1111"},
		fail:   map[string]error{}, lost: map[snapshot.ID]bool{}, evicted: map[cache.Key]time.Time{},
		index: map[cache.Key][]byte{}, blobs: map[digest.Digest][]byte{},
		clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
	}
}

// asked is a build command.
type asked struct {
	file     string
	opt      frontend.Options
	change   func(*builds.Build) // what else is remembered of it
	imports  []solver.Records
	failures bool // it may fail
}

// build builds and returns what is remembered of it.
func (w *world) build(a asked) *builds.Build {
	w.t.Helper()
	ctx := w.t.Context()
	file, err := frontend.Parse("Dockerfile", []byte(a.file))
	if err != nil {
		w.t.Fatal(err)
	}
	a.opt.BuildPlatform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	plan, err := frontend.Lower(ctx, file, w, a.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.clock = w.clock.Add(time.Hour)
	b := &builds.Build{
		ID: fmt.Sprintf("build%03d", len(w.builds)+1), Context: "/context", Dockerfile: "/context/Dockerfile",
		Started: w.clock, Ended: w.clock.Add(time.Minute), Status: builds.Succeeded,
		NoCache: a.opt.NoCache, NoCacheFilter: a.opt.NoCacheFilter,
	}
	for _, t := range plan.Targets {
		b.Platforms = append(b.Platforms, frontend.FormatPlatform(t.Platform))
	}
	if a.change != nil {
		a.change(b)
	}
	_, err = solver.Solve(ctx, plan.Graph, plan.Nodes(), w, solver.Options{
		Index: w, Imports: a.imports, Jobs: 1,
		Traced: func(traces []solver.Trace) {
			b.Steps = builds.Steps(plan.Graph, traces, func(s string) string { return s })
		},
	})
	if err != nil && !a.failures {
		w.t.Fatal(err)
	}
	w.builds = append([]*builds.Build{b}, w.builds...)
	return b
}

// explain explains the latest build.
func (w *world) explain(b *builds.Build) *Report {
	w.t.Helper()
	r, err := Build(b, History{
		Earlier: slices.Values(w.builds), Files: 20, Now: b.Ended,
		Table: func(d ocispec.Descriptor) (io.ReadCloser, error) {
			data, ok := w.blobs[d.Digest]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return io.NopCloser(bytes.NewReader(data)), nil
		},
		Evicted: func(k cache.Key) (time.Time, string, error) {
			if when, ok := w.evicted[k]; ok {
				return when, "size cap", nil
			}
			return time.Time{}, "", fs.ErrNotExist
		},
		Commit: func(digest.Digest) string { return "" },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// Resolve implements [frontend.Resolver].
func (w *world) Resolve(_ context.Context, ref string, p ocispec.Platform) (frontend.Base, error) {
	content, ok := w.images[ref]
	if !ok {
		return frontend.Base{}, fs.ErrNotExist
	}
	img := dockerspec.DockerOCIImage{}
	img.Platform = p
	img.Config.Env = []string{"PATH=/bin", "FROM_BASE=" + content}
	layer := digest.FromString(content)
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: layer, Size: 1}
	return frontend.Base{
		Ref: ref, Digest: digest.FromString(content + frontend.FormatPlatform(p)), Config: img,
		Layers: []snapshot.Layer{{DiffID: layer, Blob: &blob}},
	}, nil
}

// Get and Put make the world a cache.Index.

func (w *world) Get(_ context.Context, k cache.Key) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if data, ok := w.index[k]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (w *world) Put(_ context.Context, k cache.Key, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index[k] = data
	return nil
}

// Narrow implements [solver.Worker]: of the context a COPY reads the files that its
// paths are, or that are below them, and of a stage all that was made.
func (w *world) Narrow(_ context.Context, t solver.Task) ([]solver.Identity, error) {
	op, ok := t.Node.Op.(solver.Copy)
	if !ok {
		return nil, nil
	}
	read := make([]solver.Identity, len(t.Inputs))
	for i, src := range op.Sources {
		in := t.Inputs[i+1]
		if _, live := in.Source.(solver.Local); !live {
			continue
		}
		table, err := w.table(src)
		if err != nil {
			return nil, err
		}
		read[i+1].Digest = digest.FromBytes(table)
		read[i+1].Memo = table
	}
	return read, nil
}

// table lists what src selects of the context.
func (w *world) table(src solver.CopySource) ([]byte, error) {
	var b bytes.Buffer
	table, err := fileset.NewTableWriter(&b)
	if err != nil {
		return nil, err
	}
	for _, p := range src.Paths {
		for _, name := range slices.SortedFunc(maps.Keys(w.files), comparePaths) {
			if p != "." && name != p && !strings.HasPrefix(name, p+"/") || slices.Contains(src.Exclude, name) {
				continue
			}
			sum := fileset.Sum{Name: name, Mode: 0o100644}
			content := w.files[name]
			if mode, rest, ok := strings.Cut(content, " "); ok {
				fmt.Sscanf(mode, "%o", &sum.Mode)
				content = rest
			}
			sum.Digest = digest.FromString(content)
			if err := table.Add(sum); err != nil {
				return nil, err
			}
		}
	}
	err = table.Close()
	return b.Bytes(), err
}

// Execute implements [solver.Worker].
func (w *world) Execute(_ context.Context, t solver.Task, read []solver.Identity, _ solver.Output) ([]snapshot.Layer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if run, ok := t.Node.Op.(solver.Run); ok {
		if err := w.fail[run.Args[len(run.Args)-1]]; err != nil {
			return nil, err
		}
	}
	for i := range read {
		table, ok := read[i].Memo.([]byte)
		if !ok {
			continue
		}
		d := digest.FromBytes(table)
		w.blobs[d] = table
		read[i].Parts = []ocispec.Descriptor{{MediaType: fileset.TableType, Digest: d, Size: int64(len(table))}}
	}
	w.layers++
	return append(slices.Clone(t.Inputs[0].Layers), snapshot.Layer{ID: snapshot.ID(fmt.Sprintf("layer%d", w.layers))}), nil
}

// Fetch implements [solver.Worker].
func (w *world) Fetch(_ context.Context, op solver.Op, _ solver.Output) (solver.Result, error) {
	var content string
	switch op := op.(type) {
	case solver.HTTP:
		content = w.remote[op.URL]
	case solver.Git:
		content = w.remote[op.Remote]
	}
	return solver.Result{ID: digest.FromString(content)}, nil
}

// Has implements [solver.Worker].
func (w *world) Has(_ context.Context, r solver.Result) bool {
	return !slices.ContainsFunc(r.Layers, func(l snapshot.Layer) bool { return w.lost[l.ID] })
}

// frontendDigest is the digest of an image of this content.
func frontendDigest(content string) digest.Digest {
	return digest.FromString(content + "linux/amd64")
}

// evict removes all records, and notes that this was done at that time.
func (w *world) evict(at time.Time) {
	for k := range w.index {
		w.evicted[k] = at
	}
	clear(w.index)
}

// lose loses the layer that the step with this text made.
func (w *world) lose(text string) {
	for _, data := range w.index {
		r, err := solver.DecodeRecord(data)
		if err != nil {
			w.t.Fatal(err)
		}
		if instruction(r.Name) == text {
			w.lost[r.Result.Layers[len(r.Result.Layers)-1].ID] = true
		}
	}
}
