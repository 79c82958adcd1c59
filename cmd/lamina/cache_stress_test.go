package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCacheOfManyWritersAndReaders lets builds write to one cache in a real registry and
// others, on machines of their own, read from it, all at the same time: what was reported
// stored is found from then on, with the right files, and two tags are all that it takes.
//
// LAMINA_CACHE_BUILDS is how many builds write, and read (12), LAMINA_CACHE_WRITERS how
// many of each there are at once (4).
func TestCacheOfManyWritersAndReaders(t *testing.T) {
	builds, workers := int(fromEnv(t, "LAMINA_CACHE_BUILDS", 12)), int(fromEnv(t, "LAMINA_CACHE_WRITERS", 4))
	seed := fromEnv(t, "LAMINA_SEED", 1)
	host := debianRegistry(t)
	c := &crowd{ref: host + "/app:cache", left: builds, news: make(chan struct{}, builds)}
	l := newTool(t)
	l.file("Dockerfile", "FROM scratch AS one\nARG N\nCOPY file-$N /first\n\nFROM scratch\nARG N\nCOPY --from=one /first /second\nCOPY file-$N /third\n")

	var writers, readers sync.WaitGroup
	for i := range workers {
		writer := l.elsewhere()
		writers.Go(func() { c.write(writer) })
		readers.Go(func() { c.read(l, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	writers.Wait()
	close(c.news)
	readers.Wait()
	if t.Failed() {
		return
	}
	if len(c.stored) != builds {
		t.Errorf("%d of %d builds stored their cache", len(c.stored), builds)
	}
	for _, n := range c.stored {
		c.check(l, n)
	}
	var list struct{ Tags []string }
	resp, err := http.Get("http://" + host + "/v2/app/tags/list")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list.Tags)
	if diff := cmp.Diff([]string{"cache", "cache.mate"}, list.Tags); diff != "" {
		t.Errorf("tags: %s", diff)
	}
	t.Logf("%d builds wrote, %d read", len(c.stored), c.found)
}

// crowd is builds that share a cache.
type crowd struct {
	ref  string
	news chan struct{} // one for each that was stored

	mu     sync.Mutex
	left   int   // builds that are to write yet
	stored []int // those that were told that their cache is stored
	found  int   // how often that was seen to be so
}

// write makes builds of its own, one after the other, each of other files.
func (c *crowd) write(l *tool) {
	for {
		c.mu.Lock()
		n := c.left - 1
		c.left = max(n, 0)
		c.mu.Unlock()
		if n < 0 {
			return
		}
		l.file(fmt.Sprintf("file-%d", n), fmt.Sprint(n))
		r := l.run("build", "-o", "type=cacheonly", "--build-arg", fmt.Sprint("N=", n),
			"--cache-from", c.ref, "--cache-to", "type=registry,mode=max,ref="+c.ref, ".")
		if r.code != 0 {
			l.Errorf("build %d: %s", n, r.stderr)
			return
		}
		c.mu.Lock()
		c.stored = append(c.stored, n)
		c.mu.Unlock()
		c.news <- struct{}{}
	}
}

// read looks for what was stored, while others are being stored.
func (c *crowd) read(l *tool, random *rand.Rand) {
	for range c.news {
		c.mu.Lock()
		n := c.stored[random.IntN(len(c.stored))]
		c.mu.Unlock()
		c.check(l, n)
	}
}

// check builds what build n did, in an empty store.
func (c *crowd) check(l *tool, n int) {
	dir, err := os.MkdirTemp(l.TempDir(), "reader-")
	if err != nil {
		l.Error(err)
		return
	}
	defer os.RemoveAll(dir)
	out, file := filepath.Join(dir, "out"), filepath.Join(dir, "context", fmt.Sprintf("file-%d", n))
	if err = os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
		err = os.WriteFile(file, []byte(fmt.Sprint(n)), 0o644)
	}
	if err != nil {
		l.Error(err)
		return
	}
	r := l.run("--root", filepath.Join(dir, "store"), "build", "-o", out, "--build-arg", fmt.Sprint("N=", n),
		"--cache-from", c.ref, "-f", filepath.Join(l.dir, "Dockerfile"), filepath.Dir(file))
	if r.code != 0 {
		l.Errorf("build %d: %s", n, r.stderr)
		return
	}
	ran, cached := executed(l, r)
	if len(ran) > 0 || cached != 3 {
		l.Errorf("build %d was reported stored, and executed are %q\n%s", n, ran, r.stderr)
	}
	for _, name := range []string{"second", "third"} {
		if data, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(data) != fmt.Sprint(n) {
			l.Errorf("build %d made %q of %s, %v", n, data, name, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found++
}
