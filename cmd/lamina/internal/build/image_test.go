package build

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/frontend"
	"lamina/snapshot"
	"lamina/solver"
)

// TestDate fills in the times of a history as the reference does: 0 is none.
func TestDate(t *testing.T) {
	epoch := time.Unix(9, 0)
	for _, tc := range []struct {
		in    []int64
		epoch *time.Time
		want  []int64
	}{
		{in: []int64{1, 2}, want: []int64{1, 2}},
		{in: []int64{1, 0, 0}, want: []int64{1, 1, 1}},
		{in: []int64{1, 0, 3, 0, 5, 0}, want: []int64{1, 3, 3, 3, 5, 5}},
		{in: []int64{0, 3, 0}, want: []int64{3, 3, 3}},
		{in: []int64{0, 0}, want: []int64{0, 0}},
		{in: []int64{1, 0, 3}, epoch: &epoch, want: []int64{1, 9, 3}},
		{in: []int64{0, 0}, epoch: &epoch, want: []int64{9, 9}},
	} {
		var history []ocispec.History
		for _, n := range tc.in {
			var h ocispec.History
			if n > 0 {
				when := time.Unix(n, 0)
				h.Created = &when
			}
			history = append(history, h)
		}
		date(history, tc.epoch)
		var got []int64
		for _, h := range history {
			if h.Created == nil {
				got = append(got, 0)
			} else {
				got = append(got, h.Created.Unix())
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%v: %s", tc.in, diff)
		}
	}
}

// An image is as old as its newest layer, which need not be the uppermost: a linked
// one is from the cache when those below it are made anew.
func TestImageCreated(t *testing.T) {
	layer := func(n int64) snapshot.Layer { return snapshot.Layer{Created: time.Unix(n, 0)} }
	b := build{request: &request{}, plan: &frontend.Build{Graph: &solver.Graph{}}}
	g := b.plan.Graph
	base := g.Add(solver.Node{Op: solver.Image{}})
	below := g.Add(solver.Node{Op: solver.Copy{Dest: "/below"}, Inputs: []solver.ID{base}})
	linked := g.Add(solver.Node{Op: solver.Copy{Dest: "/linked"}, Inputs: []solver.ID{base}})
	merged := g.Add(solver.Node{Op: solver.Merge{}, Inputs: []solver.ID{below, linked}})
	found := results{
		base: {}, below: {Layers: []snapshot.Layer{layer(9)}}, linked: {Layers: []snapshot.Layer{layer(5)}},
		merged: {Layers: []snapshot.Layer{layer(9), layer(5)}},
	}
	future := time.Unix(100, 0)
	target := frontend.Target{Root: merged, History: []frontend.History{{CreatedBy: "COPY", Node: below}, {CreatedBy: "COPY --link", Node: merged}}}
	target.Config.History = []ocispec.History{{Created: &future}}
	out := b.image(target, found, nil)
	if got := out.Config.Created.Unix(); got != 9 {
		t.Errorf("created is %d, want 9, when the newest of the new layers was made", got)
	}
	if h := out.Config.History; len(h) != 3 || h[1].Created.Unix() != 9 || h[2].Created.Unix() != 5 || h[2].EmptyLayer {
		t.Errorf("history is %+v", h)
	}
}

func TestUnset(t *testing.T) {
	all, err := parseUnset([]string{"env=B", "env=NONE", "label=x", "expose=80", "expose=53/udp", "volume=/v", "entrypoint", "healthcheck", "healthcheck"})
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"A=1", "B=2", "BB=3"}
	c := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		Env: env, Labels: map[string]string{"x": "1", "y": "2"}, ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}, "53/tcp": {}},
		Volumes: map[string]struct{}{"/v": {}}, Entrypoint: []string{"/e"}, Cmd: []string{"c"},
	}}
	c.Healthcheck = &dockerspec.HealthcheckConfig{}
	var warnings []string
	unset(all, &c, func(s string) { warnings = append(warnings, s) })
	want := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		Env: []string{"A=1", "BB=3"}, Labels: map[string]string{"y": "2"}, ExposedPorts: map[string]struct{}{"53/tcp": {}}, Cmd: []string{"c"},
	}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"--unset=env=NONE: the image has no such thing", "--unset=healthcheck: the image has none"}, warnings); diff != "" {
		t.Error(diff)
	}
	if env[1] != "B=2" {
		t.Error("the base image's own configuration was changed")
	}
	for in, want := range map[string]string{
		"cmd":          "--unset=cmd: want env=NAME, label=KEY, expose=PORT, volume=PATH, entrypoint or healthcheck",
		"env":          "--unset=env: which one? write --unset=env=NAME",
		"entrypoint=x": "--unset=entrypoint=x: there is but one: write --unset=entrypoint",
	} {
		if _, err := parseUnset([]string{in}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestBuildArgs(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	bad := filepath.Join(dir, "bad")
	for name, text := range map[string]string{
		one: "# a comment\n\nA=1\r\nB=from file\nHOME_OF\n", two: "B=x=y # kept\n C=1", bad: "A=1\n=2\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lookup := variables{"HOME_OF": "here", "SOURCE_DATE_EPOCH": "7"}.lookup
	for _, tc := range []struct {
		opt  buildOptions
		want map[string]string
		err  string
	}{
		{opt: buildOptions{sourceOptions: sourceOptions{buildArgFiles: []string{one, two}, buildArgs: []string{"A=2"}}},
			want: map[string]string{"A": "2", "B": "x=y # kept", " C": "1", "HOME_OF": "here", "SOURCE_DATE_EPOCH": "7"}},
		{opt: buildOptions{sourceOptions: sourceOptions{buildArgs: []string{"SOURCE_DATE_EPOCH=8"}}}, want: map[string]string{"SOURCE_DATE_EPOCH": "8"}},
		{opt: buildOptions{sourceOptions: sourceOptions{buildArgs: []string{"SOURCE_DATE_EPOCH="}}}, want: map[string]string{"SOURCE_DATE_EPOCH": ""}},
		{opt: buildOptions{resultOptions: resultOptions{epoch: "9"}}, want: map[string]string{"SOURCE_DATE_EPOCH": "9"}},
		{opt: buildOptions{resultOptions: resultOptions{timestamp: "9"}}, want: map[string]string{}},
		{opt: buildOptions{resultOptions: resultOptions{epoch: "x"}}, err: "--source-date-epoch=x: want seconds since 1970, such as $(git log -1 --pretty=%ct)"},
		{opt: buildOptions{sourceOptions: sourceOptions{buildArgs: []string{"SOURCE_DATE_EPOCH=8"}}, resultOptions: resultOptions{epoch: "9"}},
			err: "--source-date-epoch and --build-arg=SOURCE_DATE_EPOCH say different things"},
		{opt: buildOptions{sourceOptions: sourceOptions{buildArgFiles: []string{bad}}}, err: "--build-arg-file: " + bad + `:2: there is no name before the "="`},
		{opt: buildOptions{sourceOptions: sourceOptions{buildArgFiles: []string{dir + "/none"}}}, err: "--build-arg-file: open " + dir + "/none: no such file or directory"},
	} {
		got, err := buildArgs(tc.opt, lookup)
		if err != nil {
			if err.Error() != tc.err {
				t.Errorf("error %v, want %s", err, tc.err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || tc.err != "" {
			t.Errorf("want error %q: %s", tc.err, diff)
		}
	}
}
