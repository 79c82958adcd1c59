package explain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/cmd/lamina/internal/builds"
	"lamina/frontend"
	"lamina/solver"
)

// Of all earlier builds it is the nearest that a step is compared with, not the last.
func TestNearest(t *testing.T) {
	w := newWorld(t)
	w.build(asked{file: app})
	for i := range 30 { // another branch
		w.files[fmt.Sprintf("src/other%02d", i)] = "o"
	}
	w.build(asked{file: app})
	for i := range 30 {
		delete(w.files, fmt.Sprintf("src/other%02d", i))
	}
	w.files["src/b.go"] = "B"
	r := w.explain(w.build(asked{file: app}))
	if diff := cmp.Diff([]string{"COPY src src (line 4): src/b.go changed (content) [6]"}, causes(r)); diff != "" {
		t.Error(diff)
	}
	if got := r.Causes[0].Near.Build; got != "build001" {
		t.Errorf("compared with %s, want build001", got)
	}
}

// A project in another directory is compared with, if there is nothing nearer.
func TestNearestElsewhere(t *testing.T) {
	w := newWorld(t)
	elsewhere := func(b *builds.Build) { b.Context = "/elsewhere" }
	w.build(asked{file: app, change: elsewhere})
	w.files["docs/x.md"] = "X"
	b := w.build(asked{file: strings.Replace(app, "RUN make\n", "RUN make -j\n", 1)})
	want := []string{
		"RUN make -j (line 7): step text changed: RUN make -> RUN make -j [5]",
		"COPY docs /docs (line 11): docs/x.md changed (content) [2]",
	}
	if diff := cmp.Diff(want, causes(w.explain(b))); diff != "" {
		t.Error(diff)
	}
	// What was never built is told from what has nothing to do with it.
	other := w.explain(w.build(asked{file: "FROM debian:12\nRUN one\nRUN two\nRUN three\n", change: elsewhere}))
	if diff := cmp.Diff([]string{"RUN one (line 2): never built here [3]"}, causes(other)); diff != "" {
		t.Error(diff)
	}
}

func TestFailedBefore(t *testing.T) {
	w := newWorld(t)
	w.fail["make test"] = errors.New("exit code 1")
	fail := asked{file: app, failures: true, change: func(b *builds.Build) { b.Status = builds.Failed }}
	w.build(fail)
	r := w.explain(w.build(fail))
	if diff := cmp.Diff([]string{"RUN make test (line 8): failed before, and so never remembered [1]"}, causes(r)); diff != "" {
		t.Error(diff)
	}
	clear(w.fail)
	r = w.explain(w.build(asked{file: app}))
	want := []string{"RUN make test (line 8): failed before, and so never remembered [4]"}
	if diff := cmp.Diff(want, causes(r)[:1]); diff != "" {
		t.Error(diff)
	}
}

// The answer does not depend on when it is asked, nor on what was built since.
func TestSameAnswerLater(t *testing.T) {
	w := newWorld(t)
	w.build(asked{file: app})
	w.files["src/a.go"] = "A"
	b := w.build(asked{file: app})
	first := w.explain(b)
	w.build(asked{file: app, opt: frontend.Options{NoCache: true}})
	late := *w.builds[0]
	late.ID, late.Ended = "build000", b.Ended.Add(1) // began before b, and was over after it
	w.builds = append(w.builds, &late)
	if diff := cmp.Diff(first, w.explain(b), cmp.AllowUnexported(Report{}, Cause{})); diff != "" {
		t.Error(diff)
	}
}

func TestImported(t *testing.T) {
	w := newWorld(t)
	w.build(asked{file: app})
	var records []*solver.Record
	for _, data := range w.index {
		r, err := solver.DecodeRecord(data)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(records, func(o *solver.Record) bool { return o.Result.ID == r.Result.ID }) {
			records = append(records, r)
		}
	}
	// Another machine has the cache, and none of the builds.
	here := newWorld(t)
	here.blobs = w.blobs
	here.files["src/a.go"] = "A"
	learned := 0
	b := here.build(asked{
		file: strings.Replace(app, "RUN install", "RUN install -v", 1), imports: []solver.Records{w},
		change: func(b *builds.Build) {
			b.Caches = []builds.Cache{{Name: "gone", Error: "no such cache"}, {Name: "r/app:cache", Steps: 7}}
		},
	})
	b.Imported = Imported(b, []Cache{{Number: 2, Records: slices.Values(records), Learn: func(*solver.Record) error { learned++; return nil }}})
	r := here.explain(b)
	want := []string{
		"COPY src src (line 4): src/a.go changed (content) [6]",
		"RUN install -v (line 12): step text changed: RUN install -> RUN install -v [1]",
	}
	if diff := cmp.Diff(want, causes(r)); diff != "" {
		t.Error(diff)
	}
	if near := r.Causes[0].Near; near.Cache != "r/app:cache" || near.Build != "" {
		t.Errorf("compared with %+v", near)
	}
	if diff := cmp.Diff([]string{"no such cache"}, r.Notes); diff != "" || learned == 0 {
		t.Errorf("learned %d times, notes: %s", learned, diff)
	}
}
