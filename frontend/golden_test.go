package frontend

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"lamina/snapshot"
	"lamina/solver"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/lower")

// TestLower compares what Dockerfiles become with testdata/lower/*.txtar:
//
//	-- Dockerfile --
//	-- options --  lines such as "target app", "platform linux/arm64", "arg A=b"
//	-- images --   lines such as "debian:12 {"config": …}", in place of the default
//	-- want --     graph, images and warnings; written by -update
func TestLower(t *testing.T) {
	golden(t, "../testdata/lower/*.txtar", func(t *testing.T, c *testcase) string {
		file, err := Parse("Dockerfile", c.dockerfile)
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		build, err := Lower(context.Background(), file, c.images, c.options)
		if err != nil {
			t.Fatalf("lower: %v", err)
		}
		again, err := Lower(context.Background(), file, c.images, c.options)
		if err != nil {
			t.Fatalf("lower again: %v", err)
		}
		text := c.images.shorten(describe(t, build))
		if diff := cmp.Diff(text, c.images.shorten(describe(t, again))); diff != "" {
			t.Errorf("lowering the same file twice differs:\n%s", diff)
		}
		return text
	})
}

// TestErrors compares the exact text of errors with testdata/lower/errors/*.txtar.
func TestErrors(t *testing.T) {
	golden(t, "../testdata/lower/errors/*.txtar", func(t *testing.T, c *testcase) string {
		file, err := Parse("Dockerfile", c.dockerfile)
		if err == nil {
			_, err = Lower(context.Background(), file, c.images, c.options)
		}
		if err == nil {
			t.Fatal("no error")
		}
		return Render(err, c.dockerfile)
	})
}

func golden(t *testing.T, pattern string, run func(*testing.T, *testcase) string) {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files match %s: %v", pattern, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			c := readCase(t, name)
			got := run(t, c)
			if *update {
				c.rewrite(t, name, got)
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// testcase is a golden file.
type testcase struct {
	archive    *txtar.Archive
	dockerfile []byte
	options    Options
	images     images
	want       string
}

func readCase(t *testing.T, name string) *testcase {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	c := &testcase{archive: archive, images: images{"debian": {}}}
	c.options.BuildPlatform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for _, f := range archive.Files {
		switch f.Name {
		case "Dockerfile":
			c.dockerfile = f.Data
		case "options":
			for line := range strings.Lines(string(f.Data)) {
				c.option(t, strings.TrimSpace(line))
			}
		case "images":
			c.images = parseImages(t, f.Data)
		case "want":
			c.want = string(f.Data)
		default:
			t.Fatalf("unknown file %q", f.Name)
		}
	}
	return c
}

func (c *testcase) rewrite(t *testing.T, name, want string) {
	files := c.archive.Files[:0:0]
	for _, f := range c.archive.Files {
		if f.Name != "want" {
			files = append(files, f)
		}
	}
	c.archive.Files = append(files, txtar.File{Name: "want", Data: []byte(want)})
	if err := os.WriteFile(name, txtar.Format(c.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c *testcase) option(t *testing.T, line string) {
	t.Helper()
	o := &c.options
	key, value, _ := strings.Cut(line, " ")
	left, right, _ := strings.Cut(value, "=")
	switch key {
	case "target":
		o.Targets = append(o.Targets, value)
	case "platform":
		p, err := ParsePlatform(value)
		if err != nil {
			t.Fatal(err)
		}
		o.Platforms = append(o.Platforms, p)
	case "arg":
		if o.BuildArgs == nil {
			o.BuildArgs = map[string]string{}
		}
		o.BuildArgs[left] = right
	case "context": // NAME=image REF, NAME=local, NAME=git URL or NAME=http URL
		if o.Contexts == nil {
			o.Contexts = map[string]Context{}
		}
		name, err := ContextName(left)
		if err != nil {
			t.Fatal(err)
		}
		o.Contexts[name] = testContext(t, name, right)
	case "label":
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[left] = right
	case "no-cache":
		o.NoCache = true
	case "no-cache-filter":
		o.NoCacheFilter = append(o.NoCacheFilter, value)
	case "network":
		o.Network = value
	case "allow":
		o.Allow.NetworkHost = o.Allow.NetworkHost || value == "network.host"
		o.Allow.Insecure = o.Allow.Insecure || value == "security.insecure"
	case "volume":
		o.Mounts = append(o.Mounts, solver.RunMount{Type: solver.MountVolume, Source: left, Target: right})
	case "hostname":
		o.Hostname = value
	case "add-host":
		o.Hosts = append(o.Hosts, value)
	case "ulimit":
		o.Ulimits = append(o.Ulimits, value)
	case "shm-size":
		o.ShmSize = number(t, value)
	case "epoch":
		n := number(t, value)
		o.Epoch = &n
	case "context-time":
		n := number(t, value)
		o.ContextTime = &n
	default:
		t.Fatalf("unknown option %q", line)
	}
}

func testContext(t *testing.T, name, value string) Context {
	kind, value, _ := strings.Cut(value, " ")
	switch kind {
	case "image":
		return Context{Image: value}
	case "local":
		return Context{Op: solver.Local{Name: "context " + name}}
	case "git":
		ref, _, err := ParseGit(value)
		if err != nil {
			t.Fatal(err)
		}
		return Context{Op: ref.Git}
	case "http":
		return Context{Op: solver.HTTP{URL: value, Name: "context"}}
	}
	t.Fatalf("unknown kind of context %q", kind)
	return Context{}
}

func number(t *testing.T, s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// images resolves names to configurations. Each image has one layer, and exists
// for every platform unless its configuration names one.
type images map[string]json.RawMessage

func parseImages(t *testing.T, data []byte) images {
	all := images{}
	for line := range strings.Lines(string(data)) {
		name, config, _ := strings.Cut(strings.TrimSpace(line), " ")
		if config != "" && !json.Valid([]byte(config)) {
			t.Fatalf("image %s: invalid configuration %s", name, config)
		}
		all[name] = json.RawMessage(config)
	}
	return all
}

func (m images) Resolve(_ context.Context, ref string, p ocispec.Platform) (Base, error) {
	config, ok := m[ref]
	if !ok {
		return Base{}, fmt.Errorf("image %s: %w", ref, fs.ErrNotExist)
	}
	base := Base{Ref: "docker.io/library/" + ref, Digest: imageDigest(ref, p)}
	base.Config.Platform = p
	base.Config.Config.Cmd = []string{"bash"}
	base.Config.History = []ocispec.History{{CreatedBy: "base"}}
	base.Config.RootFS.DiffIDs = []digest.Digest{digest.FromString("layer")}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &base.Config); err != nil {
			return Base{}, err
		}
	}
	base.Layers = []snapshot.Layer{{DiffID: digest.FromString("layer of " + ref)}}
	return base, nil
}

func imageDigest(ref string, p ocispec.Platform) digest.Digest {
	return digest.FromString(ref + " for " + FormatPlatform(p))
}

// shorten makes golden files readable.
func (m images) shorten(text string) string {
	for ref := range m {
		for _, p := range []string{"linux/amd64", "linux/arm64", "linux/arm/v7"} {
			parsed, _ := ParsePlatform(p)
			text = strings.ReplaceAll(text, imageDigest(ref, parsed).String(), "<"+ref+" "+p+">")
		}
		text = strings.ReplaceAll(text, digest.FromString("layer of "+ref).String(), "<layer of "+ref+">")
	}
	return strings.ReplaceAll(text, defaultPath, "<default>")
}

// describe is a build as text.
func describe(t *testing.T, b *Build) string {
	var w strings.Builder
	for id, n := range b.Graph.Nodes {
		fmt.Fprintf(&w, "%d %s", id, n.Name)
		for i, in := range n.Inputs {
			w.WriteString(map[bool]string{true: " <- ", false: ", "}[i == 0] + strconv.Itoa(int(in)))
		}
		if n.Pos.First > 0 {
			fmt.Fprintf(&w, " (line %d-%d)", n.Pos.First, n.Pos.Last)
		}
		if n.NoCache {
			w.WriteString(" no cache")
		}
		fmt.Fprintf(&w, "\n  %s\n", opText(t, n.Op))
	}
	for _, target := range b.Targets {
		fmt.Fprintf(&w, "\ntarget %s for %s: %d\n", target.Stage, FormatPlatform(target.Platform), target.Root)
		fmt.Fprintf(&w, "  %s\n", jsonText(t, target.Config))
		for _, h := range target.History {
			at := "empty"
			if h.Node != EmptyLayer {
				at = strconv.Itoa(int(h.Node))
			}
			if h.Comment != historyComment {
				t.Errorf("history comment %q", h.Comment)
			}
			fmt.Fprintf(&w, "  %s: %s\n", at, strings.ReplaceAll(h.CreatedBy, "\n", "\n    "))
		}
	}
	if b.Epoch != nil {
		fmt.Fprintf(&w, "\nepoch %d\n", *b.Epoch)
	}
	for i, warning := range b.Warnings {
		if i == 0 {
			w.WriteByte('\n')
		}
		fmt.Fprintf(&w, "warning: line %d: %s: %s\n", warning.Pos.First, warning.Rule, warning.Text)
	}
	for _, note := range b.Notes {
		fmt.Fprintf(&w, "\nnote: %s\n", note)
	}
	return w.String()
}

func opText(t *testing.T, op solver.Op) string {
	kind := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", op), "solver."))
	text := kind + " " + jsonText(t, op)
	if run, ok := op.(solver.Run); ok && len(run.ProxyEnv) > 0 {
		text += " proxies " + strings.Join(run.ProxyEnv, " ")
	}
	return text
}

func jsonText(t *testing.T, v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}
