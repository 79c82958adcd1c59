package frontend

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/solver"
)

func TestParsePlatform(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"linux/amd64", "linux/amd64"},
		{"linux/x86_64/v1", "linux/amd64"},
		{"Linux/AMD64/v3", "linux/amd64/v3"},
		{"linux/arm64/v8", "linux/arm64"},
		{"linux/aarch64", "linux/arm64"},
		{"arm64/v9", "arm64/v9"}, // an operating system called arm64: who knows
		{"linux/arm", "linux/arm/v7"},
		{"linux/arm/6", "linux/arm/v6"},
		{"linux/armel", "linux/arm/v6"},
		{"linux/armhf", "linux/arm/v7"},
		{"linux/i386", "linux/386"},
		{"riscv64", "linux/riscv64"},
		{"windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"},
		{"macos/arm64", "darwin/arm64"},
	} {
		p, err := ParsePlatform(tc.in)
		if err != nil || FormatPlatform(p) != tc.want {
			t.Errorf("ParsePlatform(%q) = %s, %v, want %s", tc.in, FormatPlatform(p), err, tc.want)
		}
	}
	for _, in := range []string{"", "/", "linux/", "linux/a/b/c", "linux/*", "pdp11", "linux/amd64(1)", "a b/c"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("ParsePlatform(%q) = %s, want an error", in, FormatPlatform(p))
		}
	}
	if p, err := ParsePlatform("linux"); err != nil || p.Architecture == "" {
		t.Errorf("ParsePlatform(linux) = %+v, %v, want this machine's architecture", p, err)
	}
}

func TestAcceptSyntax(t *testing.T) {
	for _, name := range []string{
		"docker/dockerfile", "docker/dockerfile:1", "docker/dockerfile:1.0", "docker/dockerfile:1.26.3",
		"docker/dockerfile:1.26-labs", "docker/dockerfile:labs", "docker/dockerfile:latest",
		"docker/dockerfile:experimental", "docker/dockerfile:1.0-experimental", "docker.io/docker/dockerfile:1.4",
		"docker/dockerfile-upstream:master", "docker/dockerfile:1 with an argument",
	} {
		if err := acceptSyntax(name); err != nil {
			t.Errorf("acceptSyntax(%q): %v", name, err)
		}
	}
	for _, name := range []string{"", "dockerfile", "docker/dockerfile:2", "docker/dockerfile:1.27", "docker/dockerfile:1.99999999999999999999",
		"docker/dockerfile:", "evil.example/docker/dockerfile:1", "docker/dockerfile:1@sha256:12"} {
		if err := acceptSyntax(name); err == nil {
			t.Errorf("acceptSyntax(%q) accepted it", name)
		}
	}
}

func TestEnviron(t *testing.T) {
	e := environ{"A=0"}.merge([]string{"A=1", "B", "A=2", "C=x=y"})
	if diff := cmp.Diff(environ{"B=", "A=2", "C=x=y"}, e); diff != "" {
		t.Error(diff)
	}
	other := e.with("B", "3").with("D", "4")
	if diff := cmp.Diff(environ{"B=", "A=2", "C=x=y"}, e); diff != "" {
		t.Errorf("with changed its receiver:\n%s", diff)
	}
	if diff := cmp.Diff(environ{"A=2", "C=x=y", "B=3", "D=4"}, other); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"B", "A", "C"}, e.Keys()); diff != "" {
		t.Error(diff)
	}
	if v, ok := e.Get("C"); v != "x=y" || !ok {
		t.Errorf("Get(C) = %q, %v", v, ok)
	}
	if _, ok := e.Get(""); ok {
		t.Error("the empty key is set")
	}
	image := []string{"B", "A=1", "A=2"}
	if diff := cmp.Diff([]string{"B=3", "A=4", "A=2", "C=5"},
		inPlace(inPlace(inPlace(image, "B", "3"), "A", "4"), "C", "5")); diff != "" {
		t.Error(diff)
	}
	if image[0] != "B" {
		t.Error("inPlace changed its argument")
	}
}

func TestDestination(t *testing.T) {
	for _, tc := range []struct{ dir, p, want string }{
		{"/", "a", "/a"},
		{"/w", "a/", "/w/a/"},
		{"/w", ".", "/w/"},
		{"/w", "", "/w/"},
		{"/w", "..", "/"},
		{"/w/x", "..", "/w"},
		{"/w", "../../../a", "/a"},
		{"/w", "/a/../b/", "/b/"},
		{"/w", "/a/.", "/a/"},
		{"/w", "/", "/"},
		{"/", "./", "/"},
	} {
		if got := destination(tc.dir, tc.p); got != tc.want {
			t.Errorf("destination(%q, %q) = %q, want %q", tc.dir, tc.p, got, tc.want)
		}
	}
}

func TestIsGit(t *testing.T) {
	for src, want := range map[string]bool{
		"https://example.com/a/b.git":        true,
		"https://example.com/a/b.git#v1:sub": true,
		"https://example.com/a/b.git?ref=x":  true,
		"http://example.com/a.git/b":         false,
		"https://example.com/a.tar.gz":       false,
		"git@github.com:a/b":                 true,
		"git@github.com:a/b.git#main":        true,
		"git://example.com/a":                true,
		"ssh://git@example.com/a":            true,
		"github.com/a/b":                     false,
		"./git@host:x":                       false,
		"ftp://example.com/a.git":            false,
		"a.git":                              false,
	} {
		if got := isGit(src); got != want {
			t.Errorf("isGit(%q) = %v", src, got)
		}
	}
}

func TestProxyEnv(t *testing.T) {
	got := proxyEnv(map[string]string{"http_proxy": "l", "HTTP_PROXY": "u", "No_Proxy": "n", "FTP_PROXY": "", "X": "y"})
	want := []string{"HTTP_PROXY=l", "http_proxy=l", "NO_PROXY=n", "no_proxy=n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// counting counts what it is asked for.
type counting struct {
	mu    sync.Mutex
	asked map[string]int
	images
}

func (c *counting) Resolve(ctx context.Context, ref string, p ocispec.Platform) (Base, error) {
	c.mu.Lock()
	c.asked[ref+" "+FormatPlatform(p)]++
	c.mu.Unlock()
	return c.images.Resolve(ctx, ref, p)
}

func TestResolvesWhatIsNeededOnce(t *testing.T) {
	file, err := Parse("Dockerfile", []byte(`
FROM debian AS a
FROM --platform=linux/amd64 debian AS b
COPY --from=busybox / /
FROM unused
FROM a
COPY --from=b / /
COPY --from=busybox / /
`))
	if err != nil {
		t.Fatal(err)
	}
	r := &counting{asked: map[string]int{}, images: images{"debian": nil, "busybox": nil}}
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	amd := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	_, err = Lower(context.Background(), file, r, Options{
		BuildPlatform: amd, Platforms: []ocispec.Platform{amd, arm}, Targets: []string{"", "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{
		"debian linux/amd64": 1, "debian linux/arm64": 1, "busybox linux/amd64": 1, "busybox linux/arm64": 1,
	}
	if diff := cmp.Diff(want, r.asked); diff != "" {
		t.Error(diff)
	}
}

func TestNodes(t *testing.T) {
	file, err := Parse("Dockerfile", []byte("FROM debian AS a\nRUN a\nENV A=b\nWORKDIR /w\nFROM a AS b\nRUN b\n"))
	if err != nil {
		t.Fatal(err)
	}
	build, err := Lower(context.Background(), file, images{"debian": nil}, Options{Targets: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]solver.ID{0, 1, 2, 3}, build.Nodes()); diff != "" {
		t.Error(diff)
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	file, err := Parse("Dockerfile", []byte("FROM nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lower(context.Background(), file, images{}, Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
	var list ErrorList
	if !errors.As(err, &list) || len(list) != 1 {
		t.Fatalf("%v is not a list of one error", err)
	}
	if want := (solver.Pos{File: "Dockerfile", First: 1, Last: 1}); list[0].Pos != want {
		t.Errorf("position %+v, want %+v", list[0].Pos, want)
	}
}

// waiting resolves nothing until it is cancelled.
type waiting struct{ asked func() }

func (w waiting) Resolve(ctx context.Context, _ string, _ ocispec.Platform) (Base, error) {
	w.asked()
	<-ctx.Done()
	return Base{}, ctx.Err()
}

func TestCancelled(t *testing.T) {
	file, err := Parse("Dockerfile", []byte("FROM debian\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if _, err = Lower(ctx, file, waiting{cancel}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestLowerConcurrently(t *testing.T) {
	file, err := Parse("Dockerfile", []byte("FROM debian\nARG A=1\nENV B=$A\nEXPOSE $B\nCOPY $A <<EOF /\n$B\nEOF\n"))
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			build, err := Lower(context.Background(), file, images{"debian": nil}, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			want := "COPY 1 <<EOF / # buildkit"
			if h := build.Targets[0].History; h[len(h)-1].CreatedBy != want {
				t.Errorf("history %q, want %q", h[len(h)-1].CreatedBy, want)
			}
		})
	}
	wait.Wait()
}

func TestRenderOtherErrors(t *testing.T) {
	if got := Render(errors.New("other"), nil); got != "other\n" {
		t.Errorf("Render = %q", got)
	}
	one := &Error{Pos: solver.Pos{File: "f", First: 9}, Text: "text", Hint: "hint"}
	if got, want := Render(one, []byte("a\nb\n")), "f:9: text\nhint: hint\n"; got != want {
		t.Errorf("Render = %q, want %q", got, want)
	}
}

func TestExcerpt(t *testing.T) {
	src := []byte(strings.Repeat("x\r\n", 20))
	got := Excerpt(src, solver.Pos{First: 20, Last: 99})
	if want := "    19 | x\n >  20 | x\n"; got != want {
		t.Errorf("Excerpt = %q, want %q", got, want)
	}
	if got := Excerpt(src, solver.Pos{First: 2, Last: 20}); strings.Count(got, "\n") != 9 || !strings.Contains(got, "…") {
		t.Errorf("Excerpt of a long instruction:\n%s", got)
	}
	if got := Excerpt(nil, solver.Pos{}); got != "" {
		t.Errorf("Excerpt of nothing = %q", got)
	}
}

// A file that is no Dockerfile must not flood the terminal, or control it.
func TestRenderHarmless(t *testing.T) {
	src := []byte("\x1b]0;title\a\xff\tx\n" + strings.Repeat("long", 1000) + "\n" + strings.Repeat("\x1b[2J\n", 30))
	_, err := Parse("f", src)
	got := Render(err, src)
	if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }); i >= 0 {
		t.Errorf("it has the control character %q at %d", got[i], i)
	}
	if !utf8.ValidString(got) || len(got) > 10_000 {
		t.Errorf("it has %d bytes, valid: %v", len(got), utf8.ValidString(got))
	}
	if want := "and 22 more errors\n"; !strings.HasSuffix(got, want) {
		t.Errorf("it does not end with %q but with %q", want, got[max(0, len(got)-100):])
	}
}
