package collect

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/solver"
)

const mega = 1 << 20

// chain makes a layer of a megabyte and the step that made it, on the layers of below.
func (w *world) chain(name string, below ...string) cache.Key {
	w.t.Helper()
	w.big(snapshot.ID(name), "", mega)
	var layers []snapshot.Layer
	for _, b := range below {
		layers = append(layers, snapshot.Layer{ID: snapshot.ID(b)})
	}
	return w.stepOn(name, below, append(layers, snapshot.Layer{ID: snapshot.ID(name)})...)
}

func (w *world) after(l Limits) Report {
	w.t.Helper()
	r, err := After(w.t.Context(), w.store, l)
	w.must(err)
	return r
}

// The least recently used goes first, and what others stand on stays as long as they do.
func TestAfterSize(t *testing.T) {
	w := newWorld(t)
	base := w.chain("base")
	unused := w.chain("unused")
	left := w.chain("left", "base")
	right := w.chain("right", "base")
	w.mount("cache", mega)
	w.oldRecord(base, 9*time.Hour)
	w.oldRecord(left, 8*time.Hour)
	w.oldRecord(unused, 7*time.Hour)
	w.old("mounts/cache", 6*time.Hour)

	limit := w.du() + 8192 // for the lists that are written meanwhile
	if r := w.after(Limits{Size: limit}); r.Bytes != 0 || len(w.layers()) != 4 {
		t.Fatalf("within the limits was removed: %+v", r)
	}
	for _, step := range []struct {
		gone cache.Key
		left []snapshot.ID
	}{
		{left, []snapshot.ID{"base", "right", "unused"}},
		{unused, []snapshot.ID{"base", "right"}},
		{"", []snapshot.ID{"base", "right"}}, // the cache mount
		{right, []snapshot.ID{"base"}},
		{base, nil},
	} {
		before := w.du()
		r := w.after(Limits{Size: before - 1})
		if r.Bytes < mega || r.Stuck {
			t.Errorf("was removed: %+v", r)
		}
		if got := w.layers(); !slices.Equal(got, step.left) {
			t.Errorf("layers %v are left, want %v", got, step.left)
		}
		if step.gone != "" {
			e, err := Evicted(w.store, step.gone)
			if err != nil || e.Reason != BySize {
				t.Errorf("%s: %+v, %v", step.gone, e, err)
			}
		}
		if now := w.du(); now > before-1 {
			t.Errorf("%d bytes are left of %d", now, before)
		}
	}
	if w.exists("mounts/cache") {
		t.Error("the cache mount is left")
	}
}

// Used is what the index was asked for, not what a collection looked at.
func TestAfterUse(t *testing.T) {
	w := newWorld(t)
	asked, other := w.chain("asked"), w.chain("other")
	w.oldRecord(asked, 9*time.Hour)
	w.oldRecord(other, 8*time.Hour)
	for range 2 {
		_, err := Usage(t.Context(), w.store, nil, true)
		w.must(err)
		_, err = Prune(t.Context(), w.store, PruneOptions{})
		w.must(err)
	}
	_, err := w.store.Index().Get(t.Context(), asked)
	w.must(err)
	w.after(Limits{Size: w.du() - 1})
	if got, want := w.layers(), []snapshot.ID{"asked"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
}

func TestAfterAge(t *testing.T) {
	w := newWorld(t)
	const day = 24 * time.Hour
	base, old := w.chain("base"), w.chain("old")
	w.chain("new", "base")
	w.mount("old", 10)
	w.mount("new", 10)
	w.must(os.MkdirAll(w.store.Path("git/old.git"), 0o700))
	w.oldRecord(base, 5*day)
	w.oldRecord(old, 5*day)
	w.old("mounts/old", 5*day)
	w.old("git/old.git", 5*day)
	w.must(w.store.Tag(t.Context(), "docker.io/library/app:latest", w.image("named")))
	w.must(w.store.Hold(t.Context(), w.image("unnamed")))

	w.after(Limits{Age: 4 * day})
	if got, want := w.layers(), []snapshot.ID{"base", "named", "new", "unnamed"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	if w.exists("mounts/old") || w.exists("git/old.git") || !w.exists("mounts/new") {
		t.Error("the wrong mounts and repositories are left")
	}
	if e, err := Evicted(w.store, old); err != nil || e.Reason != ByAge {
		t.Errorf("%+v, %v", e, err)
	}
	// It is not looked for again at once.
	again := w.chain("again")
	w.oldRecord(again, 5*day)
	if r := w.after(Limits{Age: 4 * day}); r.Bytes != 0 || !w.hasRecord(again) {
		t.Errorf("was removed: %+v", r)
	}
}

// A layer whose record was replaced, or whose base moved, is found by nobody.
func TestAfterOrphans(t *testing.T) {
	w := newWorld(t)
	w.chain("step")
	w.big("again", "", mega)
	w.step("step", snapshot.Layer{ID: "again"}) // as --no-cache does
	w.must(w.store.AddOrigin(digest.FromString("nobody's"), "example.com/r"))
	w.after(Limits{Age: time.Hour})
	if got, want := w.layers(), []snapshot.ID{"again"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	if w.store.Origins(digest.FromString("nobody's")) != nil {
		t.Error("where a blob can be had that nobody knows is remembered")
	}
}

// What has a name stays, whatever the cap; that is told once.
func TestAfterStuck(t *testing.T) {
	w := newWorld(t)
	w.must(w.store.Tag(t.Context(), "docker.io/library/app:latest", w.image("named")))
	w.chain("step")
	r := w.after(Limits{Size: 4096})
	if !r.Stuck || r.Left <= 4096 {
		t.Errorf("want it to be stuck: %+v", r)
	}
	if got, want := w.layers(), []snapshot.ID{"named"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	if r := w.after(Limits{Size: 4096}); r.Stuck {
		t.Error("it was told twice")
	}
	if r := w.after(Limits{Size: 4097}); !r.Stuck {
		t.Error("another cap was not told")
	}
	w.after(Limits{Size: mega})
	if r := w.after(Limits{Size: 4097}); !r.Stuck {
		t.Error("it was not told again after all was well")
	}
}

// What a container runs on stays, and everything else can be collected.
func TestAfterClaim(t *testing.T) {
	w := newWorld(t)
	w.chain("running")
	w.chain("idle")
	other, err := cache.Open(w.store.Path())
	w.must(err)
	defer other.Close()
	w.must(other.Use(t.Context()))
	if _, err := After(t.Context(), w.store, Limits{Size: 1}); !errors.Is(err, cache.ErrInUse) {
		t.Fatalf("After: %v, want ErrInUse", err)
	}
	w.must(other.UseOnly(cache.Claim{By: "container 123", Paths: []string{"layers/running", "tmp/x"}}))
	if r := w.after(Limits{Size: 4096}); !r.Stuck {
		t.Errorf("want it to be stuck: %+v", r)
	}
	if got, want := w.layers(), []snapshot.ID{"running"}; !slices.Equal(got, want) {
		t.Errorf("layers %v are left, want %v", got, want)
	}
	rows, err := Usage(t.Context(), w.store, nil, true)
	w.must(err)
	i := slices.IndexFunc(rows, func(r Row) bool { return r.ID == "running" })
	if i < 0 || rows[i].Why != "container 123 is running" || !rows[i].InUse || rows[i].Reclaimable {
		t.Errorf("the rows are %+v", rows)
	}
	w.must(other.Close())
	w.after(Limits{Size: 4096})
	if got := w.layers(); len(got) > 0 {
		t.Errorf("layers %v are left after the container ended", got)
	}
}

// Whatever is in a store and whatever is removed: what is left is whole, the reported
// bytes are those that the disk got back, and a dry run says the same.
func TestPruneAnything(t *testing.T) {
	random := rng(t)
	for range 12 {
		w := newWorld(t)
		var names []string
		for i := range 12 {
			name := fmt.Sprint("step", i)
			var below []string
			if len(names) > 0 && random.IntN(3) > 0 {
				below = names[:random.IntN(len(names))]
			}
			names = append(names, name)
			w.oldRecord(w.chain(name, below...), time.Duration(random.IntN(20))*time.Hour)
		}
		for i := range random.IntN(4) {
			image := w.image(snapshot.ID(fmt.Sprint("image", i)))
			if random.IntN(2) == 0 {
				w.must(w.store.Tag(t.Context(), fmt.Sprintf("docker.io/library/app:%d", i), image))
			} else {
				w.must(w.store.Hold(t.Context(), image))
			}
		}
		for i := range random.IntN(4) {
			w.mount(fmt.Sprint(i), random.IntN(mega))
			w.old(fmt.Sprint("mounts/", i), time.Duration(random.IntN(20))*time.Hour)
		}
		opt := PruneOptions{Keep: random.Int64N(w.du()), Bounded: random.IntN(3) > 0, All: random.IntN(4) == 0}
		if random.IntN(3) == 0 {
			var err error
			opt.Filter, err = ParseFilter([]string{[]string{"until=10h", "type=mount", "type!=step,until=5h"}[random.IntN(3)]})
			w.must(err)
		}
		// Makes what costs room later, too.
		w.must(os.WriteFile(w.store.Path(evictionsFile), []byte("\n"), 0o600))
		before := w.du()
		opt.DryRun = true
		dry, err := Prune(t.Context(), w.store, opt)
		w.must(err)
		opt.DryRun = false
		r, err := Prune(t.Context(), w.store, opt)
		w.must(err)
		if dry.Bytes != r.Bytes || len(dry.Items) != len(r.Items) {
			t.Errorf("%+v: a dry run says %d bytes of %d things, and it was %d of %d", opt, dry.Bytes, len(dry.Items), r.Bytes, len(r.Items))
		}
		var items int64
		for _, i := range r.Items {
			items += i.Bytes
		}
		if freed := before - w.du(); freed != r.Bytes || items != r.Bytes {
			t.Errorf("%+v: %d bytes were reported, %d of things, and %d freed", opt, r.Bytes, items, freed)
		}
		w.whole()
	}
}

// whole fails the test if anything in the store lacks what it refers to.
func (w *world) whole() {
	w.t.Helper()
	shards, err := os.ReadDir(w.store.Path("index"))
	w.must(err)
	for _, shard := range shards {
		files, err := os.ReadDir(w.store.Path("index", shard.Name()))
		w.must(err)
		for _, f := range files {
			data, err := w.store.Peek(digest.NewDigestFromEncoded(digest.SHA256, f.Name()))
			w.must(err)
			var r solver.Record
			w.must(json.Unmarshal(data, &r))
			for _, l := range r.Result.Layers {
				if !w.exists("layers/" + string(l.ID)) {
					w.t.Errorf("%s lacks layer %s", r.Name, l.ID)
				}
			}
			for _, in := range r.Inputs {
				for _, p := range in.Read.Parts {
					if !w.exists("blobs/sha256/" + p.Digest.Encoded()) {
						w.t.Errorf("%s lacks a list of files", r.Name)
					}
				}
			}
		}
	}
	roots, err := w.store.Names(w.t.Context())
	w.must(err)
	for _, r := range roots {
		data, err := os.ReadFile(w.store.Path("blobs/sha256", r.Root.Digest.Encoded()))
		w.must(err)
		var m ocispec.Manifest
		w.must(json.Unmarshal(data, &m))
		for _, d := range append(m.Layers, m.Config) {
			if !w.exists("blobs/sha256/" + d.Digest.Encoded()) {
				w.t.Errorf("image %s lacks %s", r.Name, d.Digest)
			}
		}
	}
}

// A collection that is killed at any moment leaves a store that is whole, and the next
// one finishes it.
func TestSweepInterrupted(t *testing.T) {
	for stop := range 8 {
		w := newWorld(t)
		w.chain("base")
		w.chain("above", "base")
		w.must(w.store.Hold(t.Context(), w.image("unnamed")))
		inv, err := take(t.Context(), w.store, nil)
		w.must(err)
		p := PruneOptions{All: true}.plan(inv)
		p.units = inOrder(p.units)[:min(stop, len(p.units))]
		_, err = inv.sweep(t.Context(), p)
		w.must(err)
		w.whole()
		_, err = Prune(t.Context(), w.store, PruneOptions{All: true})
		w.must(err)
		if len(w.layers()) > 0 || w.blobs() > 0 {
			t.Errorf("stopped after %d: layers %v and %d blobs are left", stop, w.layers(), w.blobs())
		}
	}
}

func TestFilter(t *testing.T) {
	now := time.Now()
	h := &holder{kind: Mount, id: "0123", title: "/root/.cache", used: now.Add(-24 * time.Hour)}
	for text, want := range map[string]bool{
		"until=23h": true, "until=25h": false, "until=0.9d": true, "unused-for=1d,type=mount": true, "unused-for=2d,type=mount": false,
		"type=exec.cachemount": true, "type==exec.cachemount": true, "type!=mount": false, "type!=step": true, "type=regular": false,
		"id=012": true, "id=sha256:01": true, "id=12": false, "id=/root/.cache": true, "id!=01": false, "type=frontend": false,
	} {
		f, err := ParseFilter([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := f.holder(now)(h); got != want {
			t.Errorf("%s is %v of a cache mount unused for a day", text, got)
		}
	}
	for text, want := range map[string]string{
		"until":      `--filter=until: want KEY=VALUE, with until, unused-for, type or id for KEY`,
		"until=":     `--filter=until=: want KEY=VALUE, with until, unused-for, type or id for KEY`,
		"until=soon": `--filter=until=soon: "soon" is no time: want one like 24h, 90m or 14d`,
		"until=-1h":  `--filter=until=-1h: "-1h" is no time: want one like 24h, 90m or 14d`,
		"until=-1d":  `--filter=until=-1d: "-1d" is no time: want one like 24h, 90m or 14d`,
		"type=cake":  `--filter=type=cake: there is no such type: want one of step, base, download, image, layer, blob, mount, git, build`,
		"size=3":     `--filter=size=3: there is no such filter: want until, unused-for, type or id`,
	} {
		if _, err := ParseFilter([]string{text}); err == nil || err.Error() != want {
			t.Errorf("%s: error is %v, want %s", text, err, want)
		}
	}
}

// What a build left in a layer or a cache mount may not be readable, nor writable: it
// is counted as du(1) does, and goes all the same.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("permissions do not bind root")
	}
	w := newWorld(t)
	w.chain("step")
	w.mount("cache", 10)
	for _, dir := range []string{"layers/step/fs/closed", "mounts/cache/data/closed"} {
		w.must(os.MkdirAll(w.store.Path(dir, "below"), 0o700))
		w.must(os.WriteFile(w.store.Path(dir, "file"), []byte("content"), 0o000))
		w.must(os.Chmod(w.store.Path(dir, "below"), 0o500))
		w.must(os.Chmod(w.store.Path(dir), 0o000))
		t.Cleanup(func() { cache.RemoveAll(w.store.Path(dir)) })
	}
	rows, err := Usage(t.Context(), w.store, nil, true)
	w.must(err)
	out, _ := exec.Command("du", "-s", "--block-size=1", w.store.Path()).Output() // which fails, and counts
	if got, want := fmt.Sprint(sum(rows)), strings.Fields(string(out))[0]; got != want {
		t.Errorf("the rows have %s bytes, du says %s", got, want)
	}
	_, err = Prune(t.Context(), w.store, PruneOptions{All: true})
	w.must(err)
	if got := w.layers(); len(got) > 0 || w.exists("mounts/cache") {
		t.Errorf("left are layers %v", got)
	}
	if left, err := os.ReadDir(w.store.Path("tmp")); err != nil || len(left) > 2 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}
