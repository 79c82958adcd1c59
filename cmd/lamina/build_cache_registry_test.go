package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lamina/cache/registry/registrytest"
)

// stages is a Dockerfile of several stages with a layer of megabytes in each, and
// files of the context in both.
const stages = busyboxBase + `
FROM base AS build
COPY first /
RUN head -c 2000000 /dev/urandom > /made && cp /first /result
COPY second /
RUN cat /second >> /result

FROM base
RUN head -c 1000000 /dev/urandom > /installed
COPY --from=build /result /
RUN cp /result /final
`

func newStages(t *testing.T) *tool {
	l := newTool(t)
	needRun(t)
	l.busybox()
	l.file("Dockerfile", stages)
	l.file("first", "1\n")
	l.file("second", "2\n")
	return l
}

// elsewhere is the tool on another machine: with the same files, and an empty store.
func (l *tool) elsewhere() *tool {
	l.Helper()
	other := newTool(l.TB)
	if err := os.CopyFS(other.dir, os.DirFS(l.dir)); err != nil {
		l.Fatal(err)
	}
	return other
}

// executed lists the steps that a build executed, and how many were cached.
func executed(t testing.TB, r result) (ran []string, cached int) {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.stderr)
	}
	names := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^#(\d+) (\[[^\]]+ \d+/\d+\] .*|CACHED|DONE)`).FindAllStringSubmatch(r.stderr, -1) {
		switch {
		case strings.HasPrefix(m[2], "CACHED"):
			cached++
		case !strings.HasPrefix(m[2], "DONE"):
			names[m[1]] = m[2]
		case names[m[1]] != "":
			ran = append(ran, names[m[1]])
		}
	}
	return ran, cached
}

// TestCacheTravels builds on a machine, and on another that has the first one's
// cache: no layer moves until something reads it.
func TestCacheTravels(t *testing.T) {
	reg := registrytest.New(t)
	l := newStages(t)
	ref := reg.Host + "/app:cache"
	l.must("build", "--push", "-t", reg.Host+"/app:1", "--cache-to", "type=registry,mode=max,ref="+ref, ".")

	other := l.elsewhere()
	reg.Forget()
	ran, cached := executed(t, other.run("build", "--push", "-t", reg.Host+"/app:2", "--cache-from", ref,
		"--cache-to", "type=registry,mode=max,ref="+ref, "."))
	received, sent := reg.Traffic()
	if len(ran) > 0 || cached != 9 {
		t.Errorf("executed %q, %d cached", ran, cached)
	}
	const documents = 16 << 10 // configurations, manifests and records
	if received > documents || sent > documents {
		t.Errorf("%d bytes were sent and %d fetched", received, sent)
	}
	if gets := reg.Requests("GET /blobs/"); len(gets) != 1 { // the records
		t.Errorf("blobs were fetched: %q", gets)
	}
	if all := reg.Requests(""); len(all) > 20 {
		t.Errorf("%d requests: %q", len(all), all)
	}

	// To another repository of the same registry nothing moves either.
	reg.Forget()
	other.must("build", "--push", "-t", reg.Host+"/elsewhere:1", "--cache-from", ref, ".")
	mounts := reg.Requests("POST mount=") // five layers and the configuration
	if received, sent := reg.Traffic(); received > documents || sent > documents || len(mounts) != 6 {
		t.Errorf("%d bytes were sent and %d fetched, by %q", received, sent, reg.Requests("POST "))
	}

	// A file of the first stage is edited.
	third := l.elsewhere()
	third.file("second", "3\n")
	ran, _ = executed(t, third.run("build", "-o", "type=cacheonly", "--cache-from", ref, "."))
	want := []string{"COPY second", "RUN cat /second", "COPY --from=build", "RUN cp /result"}
	if len(ran) != len(want) {
		t.Fatalf("executed %q, want %q", ran, want)
	}
	for i := range want {
		if !strings.Contains(ran[i], want[i]) {
			t.Errorf("executed %q, want %q", ran[i], want[i])
		}
	}
}

// TestCacheTravelsByDistribution is the same by a registry that people run.
func TestCacheTravelsByDistribution(t *testing.T) {
	l := newStages(t)
	host := debianRegistry(t)
	for _, kind := range []string{"oci-mediatypes=true,compression=zstd", "oci-mediatypes=false"} {
		ref := host + "/app:cache-" + regexp.MustCompile(`\W`).ReplaceAllString(kind, "-")
		l.must("build", "--push", "-t", host+"/app:1", "--cache-to", "type=registry,mode=max,"+kind+",ref="+ref, ".")
		other := l.elsewhere()
		ran, cached := executed(t, other.run("build", "--push", "-t", host+"/app:2", "--cache-from", ref, "."))
		if len(ran) > 0 || cached != 9 {
			t.Errorf("%s: executed %q, %d cached", kind, ran, cached)
		}
		if layers, err := os.ReadDir(filepath.Join(other.root, "layers")); err != nil || len(layers) > 0 {
			t.Errorf("%s: %d layers were unpacked, %v", kind, len(layers), err)
		}
	}
}

// TestCacheOfManyWriters lets many builds write to one cache at the same time.
func TestCacheOfManyWriters(t *testing.T) {
	const writers = 8
	reg := registrytest.New(t)
	l := newTool(t)
	l.file("Dockerfile", "FROM scratch\nARG N\nCOPY file-$N /\n")
	for i := range writers {
		l.file(fmt.Sprintf("file-%d", i), fmt.Sprint(i))
	}
	ref := reg.Host + "/app:cache"
	args := func(i int, more ...string) []string {
		return append([]string{"build", "-o", "type=cacheonly", "--build-arg", fmt.Sprint("N=", i), "."}, more...)
	}
	var running []*exec.Cmd
	outputs := make([]strings.Builder, writers)
	for i := range writers {
		cmd := l.elsewhere().command(args(i, "--cache-from", ref, "--cache-to", ref)...)
		cmd.Stderr = &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, outputs[i].String())
		}
	}
	other := l.elsewhere()
	for i := range writers {
		if ran, cached := executed(t, other.run(args(i, "--cache-from", ref)...)); len(ran) > 0 || cached != 1 {
			t.Errorf("writer %d: executed %q", i, ran)
		}
	}
}

// TestCacheLayerLost takes a layer of the cache away, or damages it: the steps that
// need it are executed, and the build says so.
func TestCacheLayerLost(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"gone":    registrytest.Refuse(404, "BLOB_UNKNOWN", "blob unknown to registry"),
		"damaged": registrytest.Flip(1000),
	} {
		t.Run(name, func(t *testing.T) {
			reg := registrytest.New(t)
			l := newStages(t)
			ref := reg.Host + "/app:cache"
			l.must("build", "-o", "type=cacheonly", "--cache-to", "type=registry,mode=max,ref="+ref, ".")
			other := l.elsewhere()
			other.file("second", "3\n")
			for _, blob := range bigBlobs(t, l) {
				reg.Inject("GET /blobs/"+blob, -1, fault)
			}
			r := other.run("build", "-o", "type=cacheonly", "--cache-from", ref, ".")
			if ran, _ := executed(t, r); len(ran) < 4 {
				t.Errorf("executed only %q", ran)
			}
			if !strings.Contains(r.stderr, "a cached layer cannot be used, so its steps are executed: unpack layer sha256:") || strings.Contains(r.stderr, "ERROR") {
				t.Errorf("it says\n%s", r.stderr)
			}
			if ran, _ := executed(t, other.run("build", "-o", "type=cacheonly", "--cache-from", ref, ".")); len(ran) > 0 {
				t.Errorf("then it executes %q", ran)
			}
		})
	}
}

// bigBlobs are the digests of the store's blobs of more than a megabyte.
func bigBlobs(t *testing.T, l *tool) []string {
	t.Helper()
	dir := filepath.Join(l.root, "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Size() > 1<<20 {
			all = append(all, "sha256:"+e.Name())
		}
	}
	if len(all) == 0 {
		t.Fatal("there are none")
	}
	return all
}

// listed is a Dockerfile whose first stage changes without changing what is copied
// from it.
const listed = busyboxBase + `
FROM base AS build
ARG V
RUN head -c 2000000 /dev/urandom > /made && mkdir -p /out/bin && echo result > /out/bin/result && ln -s bin /out/link && echo "$V" > /version
COPY first /out/

FROM base
RUN head -c 1000000 /dev/urandom > /installed
COPY --from=build /out /out
COPY --from=build /out/link/result /
RUN --mount=type=bind,from=build,source=/out/bin,target=/bind cp /bind/result /final
`

// TestCopyFromCacheIsKeyedByList finds steps that read files of a stage which
// was made by one machine, by steps of another machine, on a third that has none of the layers: the
// lists of their files are enough.
func TestCopyFromCacheIsKeyedByList(t *testing.T) {
	reg := registrytest.New(t)
	l := newStages(t)
	l.file("Dockerfile", listed)
	ref := reg.Host + "/app:cache"
	both := []string{"--cache-from", ref, "--cache-to", "type=registry,mode=max,ref=" + ref, "-o", "type=cacheonly"}
	l.must(append([]string{"build", "--build-arg", "V=1", "."}, both...)...)
	l.elsewhere().must(append([]string{"build", "--build-arg", "V=2", "--target", "build", "."}, both...)...)

	third := l.elsewhere()
	args := []string{"build", "--build-arg", "V=2", "--push", "-t", reg.Host + "/app:1", "--cache-from", ref, "."}
	reg.Forget()
	ran, cached := executed(t, third.run(args...))
	if received, sent := reg.Traffic(); len(ran) > 0 || cached != 8 || received > 16<<10 || sent > 32<<10 {
		t.Errorf("executed %q, %d cached, %d bytes sent and %d fetched", ran, cached, received, sent)
	}
	if layers, err := os.ReadDir(filepath.Join(third.root, "layers")); err != nil || len(layers) > 0 {
		t.Errorf("%d layers were unpacked, %v", len(layers), err)
	}
	// The same again asks nobody for anything that it has.
	reg.Forget()
	if ran, _ := executed(t, third.run(args...)); len(ran) > 0 || len(reg.Requests("GET /blobs/")) > 1 { // the records
		t.Errorf("executed %q, with %q", ran, reg.Requests("GET /blobs/"))
	}

	// What is really read is another thing: what was copied before is not what is copied now.
	fourth := l.elsewhere()
	fourth.file("first", "another\n")
	fourth.must(append([]string{"build", "--build-arg", "V=2", "--target", "build", "."}, both...)...)
	fifth := fourth.elsewhere()
	ran, _ = executed(t, fifth.run(args...))
	want := []string{"COPY --from=build /out /out", "COPY --from=build /out/link/result /", "RUN --mount=type=bind"}
	if len(ran) != len(want) {
		t.Errorf("executed %q, want %q", ran, want)
	}
}

// TestCacheFromOnlyReads lets a build use a cache that it may not write to, and another
// that makes no sense: nothing is sent anywhere.
func TestCacheFromOnlyReads(t *testing.T) {
	reg := registrytest.New(t)
	l := newTool(t)
	l.file("Dockerfile", "FROM scratch\nCOPY one /\nCOPY two /\n")
	l.file("one", "1")
	l.file("two", "2")
	ref := reg.Host + "/app:cache"
	l.must("build", "--push", "-t", reg.Host+"/app:image", "--cache-to", "type=registry,mode=max,ref="+ref, ".")
	other := l.elsewhere()
	other.file("two", "changed") // so that there is something to write
	reg.Forget()
	_, cached := executed(t, other.run("build", "--cache-from", ref, "--cache-from", reg.Host+"/app:image", "--cache-from", reg.Host+"/none:cache", "-t", "app", "."))
	if cached != 1 {
		t.Errorf("%d cached", cached)
	}
	for _, r := range reg.Requests("") {
		if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "HEAD ") {
			t.Errorf("the build asks %s", r)
		}
	}
	if received, _ := reg.Traffic(); received > 0 {
		t.Errorf("%d bytes were sent", received)
	}
}
