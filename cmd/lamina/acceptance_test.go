package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needAcceptance skips what takes minutes and downloads packages, unless it is
// asked for.
func needAcceptance(t *testing.T) {
	t.Helper()
	if os.Getenv("LAMINA_ACCEPTANCE") == "" {
		t.Skip("LAMINA_ACCEPTANCE is not set; make test sets it")
	}
	needRun(t)
}

// application is one below testdata/apps.
type application struct {
	name string
	// A line of this file is edited, from old to new, and then rerun are the
	// beginnings of the instructions that must be executed again, and no other.
	file, old, new string
	rerun          []string
	// port is the variable that says where it listens, and reply what it answers there.
	port  string
	reply func(t *testing.T, l *tool, image, address string) (string, error)
	// wants are in the answer before the edit and after it.
	wants [2]string
	holds string // a file of the image
}

func applications() []application {
	return []application{{
		name: "go", port: "ADDRESS", reply: page("/"), holds: "guestbook",
		file: "main.go", old: `"Hello from a Go service"`, new: `"Hello again"`,
		wants: [2]string{"<title>Hello from a Go service</title>\n<h1>Guestbook</h1>", "<title>Hello again</title>"},
		rerun: []string{"COPY . .", "RUN --mount=type=cache,target=/go/pkg/mod --mount=", "COPY --from=build"},
	}, {
		name: "node", port: "PORT", reply: page("/browser.js"), holds: "app/server.js",
		file: "browser.js", old: `"The time"`, new: `"What time is it?"`,
		wants: [2]string{`"The time"`, `"What time is it?"`},
		rerun: []string{"COPY browser.js pad.js", "COPY public", "RUN npm run build", "COPY --from=assets", "COPY server.js"},
	}, {
		name: "nginx", port: "PORT", reply: page("/"), holds: "srv/www/index.html",
		file: "site/index.html", old: "Hello from nginx", new: "Hello again from nginx",
		wants: [2]string{"<p>Hello from nginx on Debian", "<p>Hello again from nginx on Debian"},
		rerun: []string{"COPY --chown=web:web site"},
	}, {
		name: "postgres", port: "PGPORT", reply: query("SELECT text FROM greeting"), holds: "usr/local/bin/entrypoint",
		file: "greeting.sql", old: "Hello from PostgreSQL", new: "Hello again from PostgreSQL",
		wants: [2]string{"Hello from PostgreSQL on Debian\n", "Hello again from PostgreSQL on Debian\n"},
		rerun: []string{"COPY greeting.sql", "RUN cat /tmp/greeting.sql", "COPY --chmod=0755 <<EOF"},
	}}
}

// page asks for a page.
func page(path string) func(*testing.T, *tool, string, string) (string, error) {
	return func(_ *testing.T, _ *tool, _, address string) (string, error) {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return string(body), err
	}
}

// query asks the database, by another container of the same image.
func query(sql string) func(*testing.T, *tool, string, string) (string, error) {
	return func(_ *testing.T, l *tool, image, address string) (string, error) {
		_, port, _ := strings.Cut(address, ":")
		r := l.run("run", "--rm", "-e", "PGPORT="+port, "--entrypoint", "psql", image, "-tAc", sql)
		if r.code != 0 {
			return "", fmt.Errorf("psql: exit code %d: %s", r.code, r.stderr)
		}
		return r.stdout, nil
	}
}

// TestApplications builds, moves and runs the applications of testdata/apps as
// their users would, with a real registry between two stores, and shows their
// images to programs of other people.
func TestApplications(t *testing.T) {
	needAcceptance(t)
	registry := debianRegistry(t)
	makeBases(t, registry)
	crane := makeCrane(t)
	fmt.Println("| application | cold | cached | one line edited | push | pull | up after |\n|---|---:|---:|---:|---:|---:|---:|")
	for _, app := range applications() {
		t.Run(app.name, func(t *testing.T) {
			l := newTool(t)
			if err := os.CopyFS(l.dir, os.DirFS("../../testdata/apps/"+app.name)); err != nil {
				t.Fatal(err)
			}
			image := registry + "/acceptance-" + app.name
			times := []time.Duration{l.cold(registry, image), l.cached(registry, image), l.edited(app, registry, image)}
			times = append(times, took(func() { l.must("push", image+":2") }))

			other := newTool(t)
			times = append(times, took(func() { other.must("pull", image+":2") }))
			times = append(times, other.serves(app, image+":2", app.wants[1]))
			l.serves(app, image+":1", app.wants[0])
			l.clean()
			other.clean()
			row := "| " + app.name
			for _, d := range times {
				row += fmt.Sprintf(" | %.2f s", d.Seconds())
			}
			fmt.Println(row + " |")

			checkClients(t, l, crane, image+":2", app.holds)
		})
	}
}

// cold builds where nothing was ever built.
func (l *tool) cold(registry, image string) time.Duration {
	l.Helper()
	var ran, cached []string
	d := took(func() { ran, cached = l.steps(registry, image+":1") })
	if len(ran) == 0 || len(cached) > 0 {
		l.Errorf("in an empty store %q are cached, and only %q are executed", cached, ran)
	}
	return d
}

// cached builds again what was just built.
func (l *tool) cached(registry, image string) time.Duration {
	l.Helper()
	var ran, cached []string
	d := took(func() { ran, cached = l.steps(registry, image+":1") })
	if len(ran) > 0 || len(cached) == 0 {
		l.Errorf("with nothing changed %q are executed, and only %q are cached", ran, cached)
	}
	return d
}

// edited builds after one line was edited.
func (l *tool) edited(app application, registry, image string) time.Duration {
	l.Helper()
	file := filepath.Join(l.dir, app.file)
	content, err := os.ReadFile(file)
	if err != nil {
		l.Fatal(err)
	}
	l.file(app.file, strings.Replace(string(content), app.old, app.new, 1))
	var ran []string
	d := took(func() { ran, _ = l.steps(registry, image+":2") })
	same := len(ran) == len(app.rerun)
	for _, want := range app.rerun {
		same = same && slices.ContainsFunc(ran, func(step string) bool { return strings.HasPrefix(step, want) })
	}
	if !same {
		l.Errorf("after an edit of %s %q are executed, want those that begin with %q", app.file, ran, app.rerun)
	}
	return d
}

// steps builds and returns which instructions were executed and which were not.
func (l *tool) steps(registry, image string) (ran, cached []string) {
	l.Helper()
	r := l.run("build", "--progress=rawjson", "--build-arg", "REGISTRY="+registry, "-t", image, ".")
	if r.code != 0 {
		l.Fatalf("build %s: exit code %d\n%s", image, r.code, l.run("build", "--build-arg", "REGISTRY="+registry, ".").stderr)
	}
	lines := bufio.NewScanner(strings.NewReader(r.stderr))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var status struct {
			Vertexes []struct {
				Name      string
				Completed *time.Time
				Cached    bool
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &status); err != nil {
			l.Fatalf("%v: %s", err, lines.Text())
		}
		for _, v := range status.Vertexes {
			stage, instruction, ok := strings.Cut(v.Name, "] ")
			switch {
			case !ok || stage == "[internal" || v.Completed == nil:
			case v.Cached:
				cached = append(cached, strings.Join(strings.Fields(instruction), " "))
			default:
				ran = append(ran, strings.Join(strings.Fields(instruction), " "))
			}
		}
	}
	return ran, cached
}

// serves runs the image until it answers as it should, stops it as people do, and
// returns how long the answer took.
func (l *tool) serves(app application, image, want string) time.Duration {
	l.Helper()
	t := l.TB.(*testing.T)
	address := freeAddress(t)
	listen := address
	if app.port != "ADDRESS" {
		_, listen, _ = strings.Cut(address, ":")
	}
	cmd := l.command("run", "--rm", "-e", app.port+"="+listen, image)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	var got string
	err := eventually(30*time.Second, func() (err error) {
		got, err = app.reply(t, l, image, address)
		return err
	})
	d := time.Since(begin)
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case end := <-ended:
		if end != nil {
			t.Errorf("%s ends with %v", image, end)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("%s does not end after SIGTERM", image)
		cmd.Process.Kill()
		<-ended
	}
	if err != nil || !strings.Contains(got, want) {
		t.Errorf("%s answers %q, %v, want %q; it said:\n%s", image, got, err, want, log.String())
	}
	return d
}

// An ordinary user builds the same bytes as root where nothing is run, files of
// other owners included.
func TestOrdinaryUser(t *testing.T) {
	needAcceptance(t)
	registry := debianRegistry(t)
	makeBases(t, registry)
	dockerfile := "FROM " + registry + `/debian:bookworm AS base
FROM base
ENV SOURCE_DATE_EPOCH=0
WORKDIR /srv/www
COPY --chown=www-data:33 --chmod=6750 Dockerfile ./
COPY --from=base /etc/shadow /usr/bin/passwd /copies/
ADD --chown=7:7 Dockerfile /etc/
USER nobody
`
	var digests []string
	for _, uid := range []uint32{0, 1000} {
		l := newTool(t)
		home := openDir(t, int(uid))
		l.dir, l.root = home, filepath.Join(home, "store")
		l.file("Dockerfile", dockerfile)
		l.path = copyProgram(t, l.path, home)
		cmd := l.command("build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=0", "--rewrite-timestamp", "-f", "Dockerfile", "-t", "x", ".")
		cmd.Env = append(cmd.Env, "HOME="+home)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		r := finish(t, cmd)
		if r.code != 0 {
			t.Fatalf("as user %d: exit code %d\n%s", uid, r.code, r.stderr)
		}
		digests = append(digests, strings.TrimSpace(r.stdout))
	}
	if digests[0] != digests[1] {
		t.Errorf("root builds %s, an ordinary user %s", digests[0], digests[1])
	}
}

// openDir makes a directory that belongs to a user and that everybody can reach,
// as those of [testing.T.TempDir] cannot be.
func openDir(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lamina-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, uid, uid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyProgram copies lamina to where every user can execute it.
func copyProgram(t *testing.T, path, dir string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "lamina")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// debianRegistry runs the registry of Debian's package docker-registry until the
// test ends, and returns its address.
func debianRegistry(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	dir, address := t.TempDir(), freeAddress(t)
	config := filepath.Join(dir, "config.yml")
	content := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir, address)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	err = eventually(10*time.Second, func() error {
		r, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			r.Body.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// makeBases puts the images that the applications stand on into a registry.
func makeBases(t *testing.T, registry string) {
	t.Helper()
	cmd := exec.Command("../../testdata/apps/bases.sh", registry)
	cmd.Env = append(os.Environ(), "LAMINA="+newTool(t).path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// freeAddress returns an address of this machine where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually repeats try until it succeeds or the time is over.
func eventually(limit time.Duration, try func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if err := try(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func took(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err := cmp.Or(err, json.Unmarshal(data, v)); err != nil {
		t.Fatal(err)
	}
}
