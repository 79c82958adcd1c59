package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"lamina/runner"
)

// TestCapped builds a few projects again and again, up to three at once, changing
// their files, with a cap that holds a part of what they make. Whenever no build runs,
// the store is within it; every build has all that it needs, and makes what it is to make.
//
// LAMINA_CAPPED is the number of builds (18), with layers of megabytes if it is 1000 or
// more, under a cap of 2 GiB then. LAMINA_SEED makes others (1).
func TestCapped(t *testing.T) {
	l := newTool(t)
	l.busybox()
	seed := fromEnv(t, "LAMINA_SEED", 1)
	t.Logf("LAMINA_SEED=%d", seed)
	builds := int(fromEnv(t, "LAMINA_CAPPED", 18))
	c := &capped{tool: l, random: rand.New(rand.NewPCG(seed, 0)), size: 1_500_000, limit: 24 << 20}
	if builds >= 1000 {
		c.size, c.limit = 8_000_000, 2<<30
	}
	c.run = os.Geteuid() == 0 && runner.Supported() == nil
	for i := range 4 {
		c.edit(i)
	}
	var most int64
	for done := 0; done < builds; {
		var running sync.WaitGroup
		for _, project := range c.random.Perm(4)[:1+c.random.IntN(3)] {
			if c.random.IntN(3) > 0 {
				c.edit(project)
			}
			args, want := c.args(project, done)
			running.Go(func() { c.build(args, want) })
			done++
		}
		running.Wait()
		took := c.du()
		if took > c.limit {
			t.Fatalf("after %d builds the store takes %d bytes, more than %d", done, took, c.limit)
		}
		most = max(most, took)
	}
	t.Logf("%d builds; the store took %d bytes at most, of %d", builds, most, c.limit)
	if _, err := os.Stat(filepath.Join(l.root, "evictions")); err != nil {
		t.Errorf("nothing had to be removed: %v", err)
	}
	l.clean()
}

// capped is builds under a cap.
type capped struct {
	*tool
	random *rand.Rand
	size   int64 // of what a step makes
	limit  int64
	run    bool // RUN works here
	source [4]string
}

// edit changes the source of a project.
func (c *capped) edit(project int) {
	c.Helper()
	name := fmt.Sprintf("app%d", project)
	content := make([]byte, c.size)
	seed := [32]byte{byte(project), byte(c.random.IntN(12))} // comes back now and then
	rand.NewChaCha8(seed).Read(content)
	c.source[project] = fmt.Sprintf("%x", seed[:2])
	c.file(name+"/source", string(content))
	c.file(name+"/version", c.source[project])
	c.file(name+"/Dockerfile", c.dockerfile(name))
	data, err := os.ReadFile(filepath.Join(c.dir, "bin/busybox"))
	if err != nil {
		c.Fatal(err)
	}
	c.file(name+"/bin/busybox", string(data))
	if err := os.Chmod(filepath.Join(c.dir, name, "bin/busybox"), 0o755); err != nil {
		c.Fatal(err)
	}
}

func (c *capped) dockerfile(name string) string {
	made := "COPY source /made"
	if c.run {
		made = "RUN --mount=type=cache,id=all,target=/cache date >> /cache/used && cat source > /made"
	}
	return busyboxBaseFor(c.run) + fmt.Sprintf(`
FROM base AS build
WORKDIR /%[1]s
COPY source version ./
%[2]s
FROM base
COPY --from=build /%[1]s/version /version
COPY --from=build /made /made
`, name, made)
}

// busyboxBaseFor is busyboxBase for who cannot RUN.
func busyboxBaseFor(run bool) string {
	if run {
		return busyboxBase
	}
	return "FROM scratch AS base\nCOPY bin/busybox /bin/\n"
}

// args are those of a build of the project, and the version that it is to make.
func (c *capped) args(project, number int) (args []string, want string) {
	name := fmt.Sprintf("app%d", project)
	args = []string{"build", "--progress=plain", "--max-size=" + strconv.FormatInt(c.limit, 10), "-f", name + "/Dockerfile"}
	switch c.random.IntN(4) {
	case 0:
		args = append(args, "-t", name)
	case 1:
		args = append(args, "--no-cache", "-o", "type=cacheonly")
	default:
		args = append(args, "-o", fmt.Sprintf("out%d", number))
		want = filepath.Join(c.dir, fmt.Sprintf("out%d", number))
	}
	return append(args, name), want
}

// build builds, and looks at what was made if that is in the directory out.
func (c *capped) build(args []string, out string) {
	project := args[len(args)-1]
	want, err := os.ReadFile(filepath.Join(c.dir, project, "source"))
	if err != nil {
		c.Error(err)
		return
	}
	r := c.tool.run(args...)
	if r.code != 0 {
		c.Errorf("%s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
		return
	}
	if strings.Contains(r.stderr, "WARNING") {
		c.Errorf("%s: %s", strings.Join(args, " "), r.stderr)
	}
	if out == "" {
		return
	}
	defer os.RemoveAll(out)
	got, err := os.ReadFile(filepath.Join(out, "made"))
	if err != nil {
		c.Error(err)
	}
	if !strings.HasPrefix(string(got), string(want)) {
		c.Errorf("%s made %d other bytes", strings.Join(args, " "), len(got))
	}
}

// du is what du(1) says of the store.
func (c *capped) du() int64 {
	c.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", c.root).Output()
	if err != nil {
		c.Fatal(err)
	}
	size, _, _ := strings.Cut(string(out), "\t")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		c.Fatal(err)
	}
	return n
}
