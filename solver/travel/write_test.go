package travel

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/cachetest"
	"lamina/exporter"
	"lamina/solver"
)

// slow is a repository that takes its time, each time another: a request reaches it
// after a while, and its answer takes a while.
type slow struct {
	*cachetest.Memory
	mu   sync.Mutex
	rand *rand.Rand
	most time.Duration
}

// late is a repository as one writer sees it, whose writes of tags are under way for
// long now and then.
type late struct {
	*slow
	*delays
	held bool // this writer was held up
}

// delays are of one writer at a time.
type delays struct {
	mu    sync.Mutex
	taken bool
	count int
}

const delay = 20 * time.Second

func (l *late) Tag(ctx context.Context, name string, root ocispec.Descriptor) error {
	l.delays.mu.Lock()
	mine := !l.taken && l.random(4) == 0
	if mine {
		l.taken, l.held = true, true
		l.count++
	}
	l.delays.mu.Unlock()
	if mine {
		time.Sleep(delay)
	}
	return l.slow.Tag(ctx, name, root)
}

// done says that the writer has nothing under way any more.
func (l *late) done() {
	l.delays.mu.Lock()
	defer l.delays.mu.Unlock()
	if l.held {
		l.held, l.taken = false, false
	}
}

func (s *slow) travel() { time.Sleep(s.random(s.most)) } // in virtual time

func (s *slow) random(most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rand.Int64N(int64(most)))
}

func (s *slow) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	s.travel()
	defer s.travel()
	return s.Memory.Resolve(ctx, name)
}

func (s *slow) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	s.travel()
	return s.Memory.Open(ctx, d)
}

func (s *slow) Tag(ctx context.Context, name string, root ocispec.Descriptor) error {
	s.travel()
	defer s.travel()
	return s.Memory.Tag(ctx, name, root)
}

// today waits until virtual time, which begins in 2000, is that of the steps.
func today() { time.Sleep(time.Until(made.Add(time.Hour))) }

// Whatever many writers are told is stored is stored, at the end of them all, in
// whatever order their requests arrive.
func TestManyWritersLoseNothing(t *testing.T) {
	const writers = 8
	f := newFixture(t)
	var caches []*Cache
	var steps []*solver.Record
	for i := range writers {
		steps = append(steps, f.run(fmt.Sprint(i), digest.FromString("image")))
		caches = append(caches, f.pack(steps[i]))
	}
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			today()
			repo := &slow{Memory: cachetest.NewMemory(), rand: rand.New(rand.NewPCG(seed, 1)), most: 200 * time.Millisecond}
			var wg sync.WaitGroup
			for i, c := range caches {
				wg.Go(func() {
					time.Sleep(time.Duration(i*int(seed%7)) * 30 * time.Millisecond) // one after the other, or all at once
					if _, err := Write(t.Context(), repo, "cache", f.blobs, c, Options{Settle: time.Second}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			c, err := Read(t.Context(), repo, "cache")
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range steps {
				if narrow, _ := s.Keys(); f.found(c, narrow) == nil {
					t.Errorf("seed %d: step %d of %d is lost", seed, i, c.Steps())
				}
			}
		})
	}
}

// What was reported stored is found by every reader from then on, even if every now and
// then a writer is held up for minutes on its way to set a tag.
func TestLateWritersLoseNothing(t *testing.T) {
	const writers, builds = 6, 8
	f := newFixture(t)
	var steps []*solver.Record
	var caches []*Cache
	for i := range writers * builds {
		steps = append(steps, f.run(fmt.Sprint(i), digest.FromString("image")))
		caches = append(caches, f.pack(steps[i]))
	}
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			today()
			repo := &slow{Memory: cachetest.NewMemory(), rand: rand.New(rand.NewPCG(seed, 2)), most: 100 * time.Millisecond}
			var delays delays
			var mu sync.Mutex
			var reported []*solver.Record
			check := func() {
				mu.Lock()
				want := slices.Clone(reported)
				mu.Unlock()
				c, err := Read(t.Context(), repo, "cache")
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range want {
					if narrow, _ := s.Keys(); f.found(c, narrow) == nil {
						t.Errorf("seed %d: a step of %d is lost", seed, len(want))
					}
				}
			}
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					mine := &late{slow: repo, delays: &delays}
					for b := range builds {
						i := w*builds + b
						time.Sleep(repo.random(delay))
						_, err := Write(t.Context(), mine, "cache", f.blobs, caches[i], Options{})
						mine.done()
						if err != nil {
							t.Error(err)
							continue
						}
						mu.Lock()
						reported = append(reported, steps[i])
						mu.Unlock()
						check()
					}
				})
			}
			wg.Wait()
			check()
			if len(reported) != writers*builds || delays.count == 0 {
				t.Errorf("seed %d: %d reported, %d times a writer was late", seed, len(reported), delays.count)
			}
		})
	}
}

// The usual case costs little: nobody else writes, or there is nothing to write.
func TestWriteAsksLittle(t *testing.T) {
	f := newFixture(t)
	repo := &counted{Memory: cachetest.NewMemory()}
	c := f.pack(f.chain()...)
	synctest.Test(t, func(t *testing.T) {
		today()
		begin := time.Now()
		if _, err := Write(t.Context(), repo, "cache", f.blobs, c, Options{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != settle {
			t.Errorf("the first write takes %v, want %v", took, settle)
		}
		known, err := Read(t.Context(), repo, "cache")
		if err != nil {
			t.Fatal(err)
		}
		repo.requests = nil
		begin = time.Now()
		if _, err := Write(t.Context(), repo, "cache", f.blobs, c, Options{Known: known}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 0 || len(repo.requests) != 2 { // of either tag
			t.Errorf("writing nothing takes %v and %q", took, repo.requests)
		}
		// Of two layers that are there and one that is not, only that is asked for.
		more := f.pack(append(f.chain(), f.run("third", digest.FromString("image")))...)
		repo.requests = nil
		if _, err := Write(t.Context(), repo, "cache", f.blobs, more, Options{Known: known}); err != nil {
			t.Fatal(err)
		}
		layers := 0
		for _, r := range repo.requests {
			if r == "has "+ocispec.MediaTypeImageLayerGzip {
				layers++
			}
		}
		if layers != 1 {
			t.Errorf("%q", repo.requests)
		}
	})
}

// counted notes what it is asked.
type counted struct {
	*cachetest.Memory
	requests []string
}

func (c *counted) note(what, of string) { c.requests = append(c.requests, what+" "+of) }

func (c *counted) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	c.note("resolve", name)
	return c.Memory.Resolve(ctx, name)
}

func (c *counted) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	c.note("has", d.MediaType)
	return c.Memory.Has(ctx, d)
}

// A cache of docker's media types is read like any other.
func TestWriteDockerTypes(t *testing.T) {
	f := newFixture(t)
	repo := cachetest.NewMemory()
	r, err := Write(t.Context(), repo, "cache", f.blobs, f.pack(f.chain()...), Options{Alone: true, DockerTypes: true})
	if err != nil || r.Root.MediaType != exporter.DockerManifest {
		t.Fatalf("%+v, %v", r, err)
	}
	layers, err := exporter.Children(t.Context(), repo, r.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range layers[1:] {
		if want := exporter.DockerLayerType(ocispec.MediaTypeImageLayerGzip); d.MediaType != want {
			t.Errorf("layer of type %s, want %s", d.MediaType, want)
		}
	}
	if c := f.read(repo, "cache"); c.Steps() != 2 || c.Dropped != 0 {
		t.Errorf("%d steps, %d dropped", c.Steps(), c.Dropped)
	}
}

func TestMate(t *testing.T) {
	long := strings.Repeat("x", 128)
	for _, name := range []string{"cache", long[:123], long[:124], long, long[:127] + "y"} {
		m := mate(name)
		if len(m) > 128 || m == name || !strings.HasSuffix(m, ".mate") {
			t.Errorf("the mate of %s is %s", name, m)
		}
	}
	if mate(long) == mate(long[:127]+"y") {
		t.Error("two caches share a mate")
	}
}

// A cache that an earlier lamina wrote has one tag. It is found, and gets the other
// with the next write; and so does one that lost either.
func TestOneTagBecomesTwo(t *testing.T) {
	f := newFixture(t)
	one, two := f.run("one", digest.FromString("image")), f.run("two", digest.FromString("image"))
	for _, left := range []string{"cache", mate("cache")} {
		repo := cachetest.NewMemory()
		r := f.write(repo, left, f.pack(one)) // alone, which writes one tag
		if c := f.read(repo, "cache"); c.Steps() != 1 {
			t.Fatalf("%d steps in %s", c.Steps(), left)
		}
		synctest.Test(t, func(t *testing.T) {
			today()
			known, err := Read(t.Context(), repo, "cache")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Write(t.Context(), repo, "cache", f.blobs, f.pack(two), Options{Known: known}); err != nil {
				t.Fatal(err)
			}
		})
		for _, tag := range []string{"cache", mate("cache")} {
			now, err := repo.Resolve(t.Context(), tag)
			if err != nil || now.Digest == r.Root.Digest {
				t.Errorf("%s is not written: %v", tag, err)
			}
		}
		if c := f.read(repo, "cache"); c.Steps() != 2 {
			t.Errorf("%d steps", c.Steps())
		}
	}
}
