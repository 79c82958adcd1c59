package builds

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestFind(t *testing.T) {
	s := openStore(t, t.TempDir())
	const app, tool = "docker.io/library/app:1.0", "r.example.com/team/tool:latest"
	day := time.Now().Truncate(24 * time.Hour)
	manifest, config := digest.FromString("manifest"), digest.FromString("config")
	first := built(t, s, Build{Started: day, Names: []string{app}, Images: []Image{{Digest: digest.FromString("old")}}}, Succeeded)
	second := built(t, s, Build{
		Started: day.Add(time.Minute), Names: []string{app},
		Images: []Image{{Digest: manifest, ID: config, Names: []string{app, tool}}},
	}, Succeeded)
	third := built(t, s, Build{Started: day.Add(time.Hour), Names: []string{"docker.io/library/app:2.0"}}, Failed)
	for _, test := range []struct{ ref, want string }{
		{"", third},
		{"latest", third},
		{"^0", third},
		{"^1", second},
		{"^2", first},
		{first, first},
		{strings.ToUpper(first), first},
		{third[:7], third},
		{"app:1.0", second},
		{"app", third},
		{"docker.io/library/app:1.0", second},
		{"r.example.com/team/tool", second},
		{manifest.String(), second},
		{manifest.Encoded()[:12], second},
		{config.String(), second},
		{config.Encoded()[:4], second},
		{digest.FromString("old").Encoded()[:6], first},
	} {
		if got, err := s.Find(test.ref); err != nil || got != test.want {
			t.Errorf("%q is %s, %v; want %s", test.ref, got, err, test.want)
		}
	}
	for _, ref := range []string{"^3", "nothing", "app:3", "zzzzzzzz", config.Encoded()[:3], "sha256:", "A B"} {
		got, err := s.Find(ref)
		if !errors.Is(err, fs.ErrNotExist) || err.Error() != "no such build: "+ref {
			t.Errorf("%q is %s, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"^", "^-1", "^x"} {
		if got, err := s.Find(ref); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q is %s, %v", ref, got, err)
		}
	}
	_, err := s.Find(first[:2])
	var ambiguous *AmbiguousError
	if !errors.As(err, &ambiguous) || err.Error() != "3 builds have an ID that begins with "+first[:2] {
		t.Fatalf("an ambiguous beginning: %v", err)
	}
	if want := "give more of it: " + first + ", " + second + ", " + third; ambiguous.Hint() != want {
		t.Errorf("hint is %q, want %q", ambiguous.Hint(), want)
	}
}

func TestFindInAnEmptyStore(t *testing.T) {
	s := openStore(t, t.TempDir())
	if _, err := s.Find(""); !errors.Is(err, fs.ErrNotExist) || err.Error() != "no build is remembered" {
		t.Errorf("error is %v", err)
	}
}

func TestFindStep(t *testing.T) {
	b := &Build{ID: "576jvxwq", Steps: []Step{
		{Name: "FROM debian", Pos: pos(1), Kind: "image"},
		{Name: "[build  1/12] COPY . /src", Pos: pos(3), Kind: "copy"},
		{Name: "[build 12/12] RUN make", Pos: pos(14), Kind: "run"},
		{Name: "[linux/arm64 build 12/12] RUN make", Pos: pos(14), Kind: "run"},
		{Name: "[stage-1 1/2] RUN apt-get", Pos: pos(20), Kind: "run"},
		{Name: "[stage-1 2/2] COPY --from=build /bin /bin", Pos: pos(21), Kind: "copy"},
	}}
	b.Steps[4].Pos.Last = 24
	b.Steps[5].Pos = pos(25)
	for _, test := range []struct {
		ref  string
		want int
	}{
		{"1", 0}, {"6", 5},
		{":3", 1}, {"Dockerfile:22", 4}, {":25", 5},
		{"build 1/12", 1}, {"[build 1/12]", 1}, {"linux/arm64 build 12/12", 3},
		{"1/2", 4}, {"2/2", 5},
		{"apt-get", 4}, {"COPY .", 1}, {"FROM debian", 0}, {"--from=BUILD", 5},
	} {
		if got, err := b.FindStep(test.ref); err != nil || got != test.want {
			t.Errorf("%q is %d, %v; want %d", test.ref, got, err, test.want)
		}
	}
	for ref, want := range map[string]string{
		"0":       "build 576jvxwq has no step 0",
		"7":       "build 576jvxwq has no step 7",
		":2":      "build 576jvxwq has no step :2",
		"nothing": "build 576jvxwq has no step nothing",
		"make":    "make may be any of 2 steps of build 576jvxwq",
		"12/12":   "12/12 may be any of 2 steps of build 576jvxwq",
		":14":     ":14 may be any of 2 steps of build 576jvxwq",
	} {
		if got, err := b.FindStep(ref); err == nil || err.Error() != want {
			t.Errorf("%q is %d, %v; want %s", ref, got, err, want)
		}
	}
	_, err := b.FindStep("make")
	if hint := err.(interface{ Hint() string }).Hint(); hint != "give its number: 3 is [build 12/12] RUN make; 4 is [linux/arm64 build 12/12] RUN make" {
		t.Errorf("hint is %q", hint)
	}
}
