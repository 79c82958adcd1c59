package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// moduleProxy serves versions of one Go module, and counts what is asked for.
type moduleProxy struct {
	*httptest.Server
	mu       sync.Mutex
	versions []string
	asked    map[string]int // by the end of the path
}

const greetingModule = "example.test/greeting"

func newModuleProxy(t *testing.T, versions ...string) *moduleProxy {
	t.Helper()
	p := &moduleProxy{versions: versions, asked: map[string]int{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// ServeHTTP speaks the protocol of "go help goproxy".
func (p *moduleProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	file, ok := strings.CutPrefix(r.URL.Path, "/"+greetingModule+"/@v/")
	p.asked[file]++
	latest := p.versions[len(p.versions)-1]
	switch version, kind, _ := cutLast(file, "."); {
	case r.URL.Path == "/"+greetingModule+"/@latest":
		fmt.Fprintf(w, `{"Version":%q}`, latest)
	case !ok:
		http.NotFound(w, r)
	case file == "list":
		fmt.Fprintln(w, strings.Join(p.versions, "\n"))
	case kind == "info":
		fmt.Fprintf(w, `{"Version":%q}`, version)
	case kind == "mod":
		fmt.Fprintf(w, "module %s\n", greetingModule)
	case kind == "zip":
		_, _ = w.Write(moduleZip(version))
	default:
		http.NotFound(w, r)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// moduleZip is a version of the module, which greets with its version.
func moduleZip(version string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string]string{
		"go.mod": "module " + greetingModule + "\n",
		"g.go":   fmt.Sprintf("package greeting\n\nconst Text = %q\n", "greetings from "+version),
	} {
		f, err := z.Create(greetingModule + "@" + version + "/" + name)
		if err == nil {
			_, err = f.Write([]byte(content))
		}
		if err != nil {
			panic(err) // memory does not fail
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (p *moduleProxy) publish(version string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.versions = append(p.versions, version)
}

// fetched is how often a version was downloaded.
func (p *moduleProxy) fetched(version string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[version+".zip"]
}

// Go's caches go through a registry to machines that have nothing: what is in them is
// neither downloaded nor compiled again, and what is newer elsewhere is used.
func TestCacheMountsTravel(t *testing.T) {
	needAcceptance(t)
	registry := debianRegistry(t)
	makeBases(t, registry)
	proxy := newModuleProxy(t, "v1.0.0")
	image := registry + "/travelling"
	to := "--cache-to=type=registry,mode=max,mounts=true,ref=" + image + ":cache"
	from := "--cache-from=" + image + ":cache"
	fromWithout := "--cache-from=type=registry,mounts=false,ref=" + image + ":cache"
	build := func(l *tool, edit string, options ...string) string {
		l.file("go.mod", "module app\n\ngo 1.21\n")
		l.file("main.go", "package main\n\nimport \""+greetingModule+"\"\n\n// "+edit+"\nfunc main() { println(greeting.Text) }\n")
		l.file("Dockerfile", "FROM "+registry+`/golang:bookworm
ENV GOPROXY=`+proxy.URL+` GONOSUMDB=* GOFLAGS=-mod=mod CGO_ENABLED=0
WORKDIR /src
COPY go.mod main.go ./
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go get `+greetingModule+`@latest && go build -x -o /app . 2>/log; grep -c '/compile ' /log >/compiled; test -e /app
`)
		d := took(func() {
			l.must(append([]string{"build", "-q", "-t", image}, append(options, ".")...)...)
		})
		said := l.run("run", "--rm", image, "sh", "-c", "/app 2>&1; cat /compiled")
		fmt.Printf("Go modules and build cache, %s: %.1f s: %s\n", edit, d.Seconds(), strings.ReplaceAll(said.stdout, "\n", " "))
		return said.stdout
	}
	first := newTool(t)
	if said := build(first, "made here", to); !strings.HasPrefix(said, "greetings from v1.0.0\n") || proxy.fetched("v1.0.0") != 1 {
		t.Fatalf("the first says %q, and downloaded %d times", said, proxy.fetched("v1.0.0"))
	}
	first.clean()

	second := newTool(t)
	if said := build(second, "carried", from); said != "greetings from v1.0.0\n1\n" {
		t.Errorf("a machine with the caches says %q; one package was to be compiled", said)
	}
	if n := proxy.fetched("v1.0.0"); n != 1 {
		t.Errorf("the module was downloaded %d times by two machines", n)
	}
	second.clean()

	proxy.publish("v1.1.0")
	third := newTool(t)
	if said := build(third, "carried, and something is newer", from); said != "greetings from v1.1.0\n2\n" {
		t.Errorf("once there is a newer one a machine with the caches says %q; two packages were to be compiled", said)
	}
	third.clean()

	fourth := newTool(t)
	before := proxy.fetched("v1.1.0")
	if said := build(fourth, "not carried", fromWithout); said == "greetings from v1.1.0\n2\n" || proxy.fetched("v1.1.0") != before+1 {
		t.Errorf("a machine without the caches says %q, and downloaded %d times", said, proxy.fetched("v1.1.0")-before)
	}
	fourth.clean()
}
