package builds

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/solver"
)

func TestWrite(t *testing.T) {
	t.Setenv("TZ", "UTC")
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	var got strings.Builder
	if err := sample().Write(&got, noon.Add(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	want := `Build:       576e2000
Status:      failed
Error:       Dockerfile:9: [build 3/3] RUN make: exit code 2
Context:     /home/me/app
Dockerfile:  /home/me/app/Dockerfile
Target:      release
Platform:    linux/amd64
Arguments:   DEBUG=
             VERSION=1.0
Caches:      r.example.com/app:main (there is no cache in r.example.com/app:main yet)
             r.example.com/app:cache (12 steps)
Started:     2026-11-22 12:00:00 (10 minutes ago)
Took:        75.0s
Steps:       1/3 cached
Image:       sha256:5f4b1cea59ff7ba7c8b7c5ffb4ad6d6dbb2ee8ff2c1ca0dbd2ff3d2f3a2a6f0a
             app:1.0
Warnings:    there is no cache in r.example.com/app:main yet

STEP  LINE  VERDICT                            TIME     OUTPUT  NAME
1     1     source                                              FROM debian
3     3     cached in r.example.com/app:cache  (30.0s)          [build 1/3] RUN apt-get update
4     5     executed                           0.1s             [build 2/3] COPY . .
5     9     failed                             70.0s    2.05kB  [build 3/3] RUN make && make install
6     11    unneeded                                            [stage-1 1/1] COPY --from=build /app /
                                               0.4s             [internal] load metadata for docker.io/library/debian
`
	want = strings.Replace(want, "sha256:5f4b1cea59ff7ba7c8b7c5ffb4ad6d6dbb2ee8ff2c1ca0dbd2ff3d2f3a2a6f0a", sample().Images[0].Digest.String(), 1)
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTitle(t *testing.T) {
	for _, test := range []struct {
		build Build
		want  string
	}{
		{Build{Names: []string{"docker.io/library/app:1.0", "r.example.com/b:2"}, Context: "/app"}, "app:1.0"},
		{Build{Names: []string{"r.example.com/b:2"}}, "r.example.com/b:2"},
		{Build{Context: "/home/me/app", Dockerfile: "/home/me/app/Dockerfile"}, "app"},
		{Build{Context: "/home/me/app"}, "app"},
		{Build{Context: "/home/me/app", Dockerfile: "/home/me/app/Dockerfile", Targets: []string{"a", "b"}}, "app (a, b)"},
		{Build{Context: "/home/me/app", Dockerfile: "/home/me/app/sub/x.Dockerfile"}, "app/sub/x.Dockerfile"},
		{Build{Context: "/home/me/app", Dockerfile: "/etc/Dockerfile", Targets: []string{"a"}}, "/etc/Dockerfile (a)"},
		{Build{Context: "https://example.com/app.git", Dockerfile: "Dockerfile"}, "https://example.com/app.git"},
		{Build{Context: "-", Dockerfile: "-"}, "-"},
		{Build{Context: "/", Dockerfile: "/Dockerfile"}, "/"},
	} {
		if got := test.build.Title(); got != test.want {
			t.Errorf("%+v is called %q, want %q", test.build, got, test.want)
		}
	}
}

func TestCounts(t *testing.T) {
	if got := (Counts{}).String(); got != "" {
		t.Errorf("no steps are %q", got)
	}
	if got := (Counts{Cached: 7, Executed: 2}).String(); got != "7/9 cached" {
		t.Errorf("got %q", got)
	}
	if got := sample().Count(); got != (Counts{Cached: 1, Executed: 2}) {
		t.Errorf("the sample has %+v", got)
	}
}

func TestTook(t *testing.T) {
	b := sample()
	if got := b.Took(noon.Add(time.Hour)); got != 75*time.Second {
		t.Errorf("took %v", got)
	}
	b.Ended = time.Time{}
	if got := b.Took(noon.Add(time.Minute)); got != time.Minute {
		t.Errorf("has taken %v", got)
	}
	if got := b.Took(noon.Add(-time.Minute)); got != 0 {
		t.Errorf("with a clock that was turned back it has taken %v", got)
	}
}

func TestWriteMarksWhatWasWaitedFor(t *testing.T) {
	b := &Build{Steps: []Step{
		{Name: "RUN base", Kind: "run", Verdict: solver.VerdictExecuted, Started: noon, Took: time.Second},
		{Name: "RUN fast", Kind: "run", Verdict: solver.VerdictExecuted, Started: noon.Add(time.Second), Took: time.Second, Inputs: []Input{{}}},
		{Name: "RUN slow", Kind: "run", Verdict: solver.VerdictExecuted, Started: noon.Add(time.Second), Took: time.Minute, Inputs: []Input{{}}},
	}}
	var got strings.Builder
	if err := b.writeSteps(&got, noon); err != nil {
		t.Fatal(err)
	}
	want := `
STEP  LINE  VERDICT   TIME     OUTPUT  NAME
1           executed  1.0s *           RUN base
2           executed  1.0s             RUN fast
3           executed  60.0s *          RUN slow

* is what all else waited for: 61.0s from its beginning to its end
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

// Of two stages the one that took longer is critical, and what was cached is not.
func TestCritical(t *testing.T) {
	at := func(start, end int) Step {
		return Step{
			Verdict: solver.VerdictExecuted, Started: noon.Add(time.Duration(start) * time.Second), Took: time.Duration(end-start) * time.Second,
		}
	}
	cached := Step{Verdict: solver.VerdictCached, Started: noon.Add(time.Minute), Took: time.Hour}
	on := func(s Step, inputs ...int) Step {
		for _, in := range inputs {
			s.Inputs = append(s.Inputs, Input{Step: in})
		}
		return s
	}
	for _, test := range []struct {
		name  string
		steps []Step
		want  []int
	}{
		{"nothing", nil, nil},
		{"all cached", []Step{cached, on(cached, 0)}, nil},
		{"a chain", []Step{cached, on(at(1, 2), 0), on(at(2, 3), 1)}, []int{1, 2}},
		{"two stages", []Step{at(0, 1), on(at(1, 9), 0), on(at(1, 5), 0), on(at(9, 10), 2, 1)}, []int{0, 1, 3}},
		{"the last is not the end", []Step{at(0, 9), at(0, 1)}, []int{0}},
		{"a download", []Step{{Verdict: solver.VerdictSource, Started: noon, Took: time.Second}, on(at(1, 2), 0)}, []int{0, 1}},
	} {
		if got := (&Build{Steps: test.steps}).Critical(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
