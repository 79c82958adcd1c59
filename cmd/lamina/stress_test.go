package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// TestKilled builds eight Dockerfiles at once, again and again, and kills builds
// at random moments, also while they collect. Builds that are not killed succeed, and afterwards each
// gives what it gives in a store where nobody was ever killed, of which no trace
// is left.
//
// LAMINA_STRESS is the number of kills (20), LAMINA_SEED repeats a run.
func TestKilled(t *testing.T) {
	needRun(t)
	l := newTool(t)
	l.busybox()
	var names []string
	for i := range 8 {
		name := "app" + strconv.Itoa(i)
		names = append(names, name)
		l.file(name+".Dockerfile", stressed(i))
		l.file("files/"+name+"/"+strings.Repeat("long", i)+"name", strings.Repeat(name+"\n", 10000*i))
	}
	sound := *l
	sound.root = filepath.Join(t.TempDir(), "sound")
	want := map[string][]string{}
	for _, name := range names {
		want[name] = sound.built(name)
	}

	seed := fromEnv(t, "LAMINA_SEED", uint64(time.Now().UnixNano()))
	t.Logf("LAMINA_SEED=%d", seed)
	s := &storm{tool: l, random: rand.New(rand.NewPCG(seed, 0)), kills: int(fromEnv(t, "LAMINA_STRESS", 20))}
	var workers sync.WaitGroup
	for _, name := range names {
		workers.Go(func() { s.keepBuilding(name) })
	}
	s.kill()
	workers.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d builds succeeded, %d were killed", s.succeeded, s.killed)

	for _, name := range names {
		if diff := cmp.Diff(want[name], l.built(name)); diff != "" {
			t.Errorf("%s is not what it is without kills (-want +got):\n%s", name, diff)
		}
	}
	l.clean()
}

// stressed is a Dockerfile that shares steps with those of other numbers, and
// has one of each that matters here: files of the context, processes, a cache
// mount that all want, files of another stage.
func stressed(i int) string {
	return busyboxBase + fmt.Sprintf(`
FROM base AS even
RUN seq 1 %[2]d > /even && mkdir -p /deep/er && ln /even /deep/er/link

FROM base AS work
COPY files /files
RUN --mount=type=cache,target=/cache,sharing=locked \
    echo . >> /cache/count && rm -rf /files/app0 && cat /files/*/* | sha256sum > /sum
WORKDIR /app%[1]d

FROM base
COPY --from=even /deep /deep
COPY --from=work /sum /app%[1]d/sum
RUN dd if=/dev/zero of=/app%[1]d/zeros bs=64k count=%[1]d 2>/dev/null; sleep 0.0%[1]d; chown -R 7:%[1]d /deep; rm /bin/vi
`, i, 1000*(i/2+1))
}

// storm is builds and what kills them.
type storm struct {
	*tool

	mu        sync.Mutex
	random    *rand.Rand
	kills     int // still to be done
	running   []*exec.Cmd
	succeeded int
	killed    int
}

// keepBuilding builds until there is nothing more to be killed. A build that
// ends by itself must have succeeded.
func (s *storm) keepBuilding(name string) {
	for s.left() {
		args := []string{"build", "-f", name + ".Dockerfile", "-t", name}
		if s.throw(3) == 0 {
			args = append(args, "--no-cache")
		}
		if s.throw(3) == 0 {
			args = append(args, "-o", "type=oci,dest="+name+".tar")
		}
		if s.throw(2) == 0 { // then whoever ends last collects, and is killed while it does
			args = append(args, "--max-size=4m")
		}
		cmd := s.command(append(args, ".")...)
		var log strings.Builder
		cmd.Stderr = &log
		if err := s.start(cmd); err != nil {
			s.Error(err)
			return
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		switch died := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL; {
		case s.ended(cmd, err == nil, died):
		default:
			s.Errorf("%s: %v\n%s", strings.Join(args, " "), err, log.String())
			return
		}
	}
}

func (s *storm) start(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.running = append(s.running, cmd)
	return nil
}

// ended counts how a build ended; ok is whether that was one of the two ways it may.
func (s *storm) ended(cmd *exec.Cmd, succeeded, died bool) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.running {
		if c == cmd {
			s.running = append(s.running[:i], s.running[i+1:]...)
			break
		}
	}
	if succeeded {
		s.succeeded++
	}
	if died {
		s.killed++
	}
	return succeeded || died
}

// kill kills builds until it has killed enough.
func (s *storm) kill() {
	for s.left() && !s.Failed() {
		time.Sleep(time.Duration(s.throw(400)) * time.Millisecond)
		s.mu.Lock()
		if n := len(s.running); n > 0 {
			s.running[s.random.IntN(n)].Process.Kill()
			s.kills--
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills = 0
}

func (s *storm) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills > 0
}

func (s *storm) throw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// built builds and lists every file of the result with what there is to know of it.
func (l *tool) built(name string) []string {
	l.Helper()
	out := filepath.Join(l.TempDir(), name)
	l.must("build", "--quiet", "-t", name, "-o", "type=local,dest="+out, "-f", name+".Dockerfile", ".")
	var files []string
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprint(path[len(out):], " ", info.Mode(), " ", info.Sys().(*syscall.Stat_t).Uid)
		switch info.Mode().Type() {
		case 0:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + digest.FromBytes(data).Encoded()
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		files = append(files, line)
		return nil
	})
	if err != nil {
		l.Fatal(err)
	}
	return files
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
