package main

import (
	"bytes"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/cache/registry/registrytest"
	"lamina/cmd/lamina/internal/cli"
	"lamina/runner"
)

var updateExplain = flag.Bool("update-explain", false, "rewrite what is wanted in testdata/explain")

// TestExplainCases builds two states of a context, one after the other, and compares
// what "build --explain" says of the second, word by word, with
// testdata/explain/{miss,hit}/*.txtar. A miss has a cause, a hit has none:
//
//	-- setup --        commands before the first build, see (*explainCase).do
//	-- args --         flags of both builds, one a line
//	-- change --       commands between the builds
//	-- 2/NAME --       files that the second state has instead, or besides
//	-- args2 --        flags of the second build, if they are others
//	-- want --         the standard error of the second build; written by -update-explain
//
// and everything else is a file of the context. "../http/x" is $HTTP/x.
func TestExplainCases(t *testing.T) {
	reg := registrytest.Start()
	t.Cleanup(reg.Close)
	for _, kind := range []string{"miss", "hit"} {
		names, err := filepath.Glob("../../testdata/explain/" + kind + "/*.txtar")
		if err != nil || len(names) < 50 {
			t.Fatalf("there are %d cases of a %s, and should be 50: %v", len(names), kind, err)
		}
		for _, name := range names {
			t.Run(kind+"/"+strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
				t.Parallel()
				archive, err := txtar.ParseFile(name)
				if err != nil {
					t.Fatal(err)
				}
				c := newExplainCase(t, archive, reg.Host)
				got := c.run()
				if *updateExplain {
					rewriteErrorCase(t, name, archive, got)
				} else if diff := cmp.Diff(c.section("want"), got); diff != "" {
					t.Error(diff)
				}
				if all := strings.HasPrefix(got, "All "); all != (kind == "hit") {
					t.Errorf("this is no %s:\n%s", kind, got)
				}
			})
		}
	}
}

// explainCase is one case while it runs.
type explainCase struct {
	*testing.T
	refCase                 // for what it does to files
	work, context, registry string
	http                    string
	store                   string // the store that is in use
}

func newExplainCase(t *testing.T, archive *txtar.Archive, registry string) *explainCase {
	c := &explainCase{T: t, refCase: refCase{archive: archive}, work: t.TempDir(), registry: registry}
	c.context, c.store = filepath.Join(c.work, "context"), filepath.Join(c.work, "store")
	if strings.Contains(c.section("Dockerfile"), "busybox") {
		if _, err := exec.LookPath("busybox"); err != nil || runner.Supported() != nil {
			t.Skip("RUN needs root, namespaces and a static busybox")
		}
	}
	served := filepath.Join(c.work, "http")
	for _, dir := range []string{c.context, served} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(served)))
	mux.Handle("/git/", gitBackend("/git", served))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.http = server.URL
	return c
}

// run builds both states and returns what is said of the second.
func (c *explainCase) run() string {
	for _, f := range c.archive.Files {
		if slices.Contains([]string{"setup", "args", "change", "args2", "want"}, f.Name) || strings.HasPrefix(f.Name, "2/") {
			continue
		}
		c.write(f.Name, f.Data)
	}
	if strings.Contains(c.section("Dockerfile"), "busybox") {
		c.do("busybox busybox")
	}
	c.commands("setup")
	c.build("args")
	for _, f := range c.archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "2/"); ok {
			c.write(name, f.Data)
		}
	}
	c.commands("change")
	if c.section("args2") != "" {
		return c.build("args2")
	}
	return c.build("args")
}

// write writes a file of the context, which may name the servers.
func (c *explainCase) write(name string, data []byte) {
	c.Helper()
	name = filepath.Join(c.context, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(c.expand(string(data))), 0o644); err != nil {
		c.Fatal(err)
	}
}

// expand replaces what cases may use of their surroundings.
func (c *explainCase) expand(text string) string {
	return strings.NewReplacer("$HTTP", c.http, "$REGISTRY", c.registry, "$WORK", c.work, "$CONTEXT", c.context, "$STORE", c.store).Replace(text)
}

// commands does what a section says, a line at a time.
func (c *explainCase) commands(section string) {
	c.Helper()
	for line := range strings.Lines(c.section(section)) {
		if line = strings.TrimSpace(c.expand(line)); line != "" {
			c.do(line)
		}
	}
}

// do does one of
//
//	sh COMMAND         in the context, with a Git that makes the same commits each time
//	lamina ARGUMENTS   with the store that is in use
//	store NAME         is in use from now on
//	capability NAME    makes a file a program that may bind any port
//
// or what (*refCase).setup knows.
func (c *explainCase) do(line string) {
	c.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "sh":
		cmd := exec.CommandContext(c.Context(), "sh", "-ec", rest)
		cmd.Dir, cmd.Env = c.context, gitEnv()
		if out, err := cmd.CombinedOutput(); err != nil {
			c.Fatalf("%s: %v\n%s", line, err, out)
		}
	case "store":
		c.store = filepath.Join(c.work, rest)
	case "capability":
		c.capability(filepath.Join(c.context, rest))
	case "lamina":
		c.lamina(strings.Fields(rest)...)
	default:
		switch err := c.setup(c.context, strings.Fields(line)); {
		case errors.Is(err, unix.EPERM) && os.Geteuid() != 0:
			c.Skipf("%s: only root may", line)
		case err != nil:
			c.Fatalf("%s: %v", line, err)
		}
	}
}

func (c *explainCase) capability(name string) {
	c.Helper()
	// capabilities(7): version 2, effective; CAP_NET_BIND_SERVICE is permitted
	value := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Lsetxattr(name, "security.capability", value, 0); errors.Is(err, unix.EPERM) {
		c.Skip("only root gives capabilities to programs")
	} else if err != nil {
		c.Fatal(err)
	}
}

// build builds the context with the flags of a section.
func (c *explainCase) build(section string) string {
	c.Helper()
	args := []string{"build", "--progress=quiet", "--explain"}
	output, dir := true, c.context
	for line := range strings.Lines(c.section(section)) {
		arg := c.expand(strings.TrimSuffix(line, "\n"))
		if other, ok := strings.CutPrefix(arg, "context "); ok {
			dir = other
			continue
		}
		output = output && arg != "--push" && !strings.HasPrefix(arg, "--output")
		args = append(args, arg)
	}
	if output {
		args = append(args, "--output=type=cacheonly")
	}
	return c.lamina(append(args, dir)...)
}

// call executes a command line in this process.
func (c *explainCase) call(args []string) (code int, stderr string) {
	vars := environment{"LAMINA_ROOT": c.store, "HOME": c.work}
	var stdout, errors bytes.Buffer
	e := &cli.Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &errors, LookupEnv: vars.lookup, Version: "test"}
	return execute(c.Context(), e, args), errors.String()
}

// lamina runs a command line in this process, and returns what it says on the standard
// error, without what is another each time.
func (c *explainCase) lamina(args ...string) string {
	c.Helper()
	code, stderr := c.call(args)
	// A process that another case has begun has our locks until it executes its program.
	for code != 0 && strings.Contains(stderr, cache.ErrInUse.Error()) && c.Context().Err() == nil {
		code, stderr = c.call(args)
	}
	if code != 0 {
		c.Fatalf("lamina %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	text := strings.NewReplacer(c.http, "$HTTP", c.registry, "$REGISTRY", c.work, "$WORK").Replace(stderr)
	text = digests.ReplaceAllString(text, "sha256:…")
	return moments.ReplaceAllString(text, "just now")
}

var (
	digests = regexp.MustCompile(`sha256:[0-9a-f]{8,64}`)
	moments = regexp.MustCompile(`(Less than a second|1 second|\d+ seconds) ago`)
)
