package gitsource

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/solver"
)

// remote is a repository with a history, and a server of it that counts what it
// is asked for.
type remote struct {
	t    *testing.T
	dir  string
	url  string
	ask  string // the token that it wants to see, if any
	mu   sync.Mutex
	seen int // requests that are more than a greeting
}

func newRemote(t *testing.T) *remote {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip(err)
	}
	r := &remote{t: t, dir: filepath.Join(t.TempDir(), "r.git")}
	backend := &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, password, _ := req.BasicAuth(); r.ask != "" && password != r.ask {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if req.Method == http.MethodPost {
			r.mu.Lock()
			r.seen++
			r.mu.Unlock()
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL + "/r.git"
	r.git("init", "--quiet", "--initial-branch=main", r.dir)
	r.commit("one", map[string]string{"a": "one", "d/e/f": "deep"})
	r.git("tag", "v1")
	r.git("tag", "-a", "-m", "annotated", "v1a")
	r.git("update-ref", "refs/pull/7/head", "v1")
	r.commit("two", map[string]string{"a": "two"})
	return r
}

// git runs git on the repository, with its files beside it.
func (r *remote) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	work := r.dir + ".work"
	if err := os.MkdirAll(work, 0o755); err != nil {
		r.t.Fatal(err)
	}
	cmd.Dir = work
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_DIR=" + r.dir, "GIT_WORK_TREE=" + work,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a", "GIT_COMMITTER_DATE=981173106 +0000",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *remote) commit(message string, files map[string]string) {
	r.t.Helper()
	for name, text := range files {
		name = filepath.Join(r.dir+".work", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.git("add", ".")
	r.git("commit", "--quiet", "-m", message)
}

// posts is how often a client asked for more than a greeting.
func (r *remote) posts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

func newClient(t *testing.T) *Client {
	tmp := t.TempDir()
	var mu sync.Mutex
	return &Client{
		Dir:  filepath.Join(t.TempDir(), "git"),
		Temp: func() (string, error) { return tmp, nil },
		Lock: func(context.Context, string) (func(), error) { mu.Lock(); return mu.Unlock, nil },
	}
}

// files gets what src says and returns it, by name.
func files(t *testing.T, c *Client, src solver.Git) (map[string]string, error) {
	t.Helper()
	at, err := c.Resolve(t.Context(), src)
	if err != nil {
		return nil, err
	}
	dir, release, err := c.Checkout(t.Context(), src, at)
	defer release()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(filepath.Join(dir, name))
			found[name] = string(data)
		}
		return err
	})
	return found, err
}

func TestNames(t *testing.T) {
	r := newRemote(t)
	one := map[string]string{"a": "one", "d/e/f": "deep"}
	two := map[string]string{"a": "two", "d/e/f": "deep"}
	c := newClient(t)
	for _, tc := range []struct {
		src  solver.Git
		want map[string]string
	}{
		{solver.Git{}, two},
		{solver.Git{Ref: "main"}, two},
		{solver.Git{Ref: "refs/heads/main"}, two},
		{solver.Git{Ref: "v1"}, one},
		{solver.Git{Ref: "v1a"}, one},
		{solver.Git{Ref: "refs/pull/7/head"}, one},
		{solver.Git{Ref: "pull/7/head"}, one},
		{solver.Git{Ref: r.git("rev-parse", "v1")}, one},
		{solver.Git{Ref: r.git("rev-parse", "v1a")}, one},
		{solver.Git{Checksum: r.git("rev-parse", "main"), ByCommit: true}, two},
		{solver.Git{Ref: "v1a", Checksum: r.git("rev-parse", "--short=10", "v1")}, one},
		{solver.Git{Ref: "v1a", Checksum: r.git("rev-parse", "v1a")}, one},
		{solver.Git{Ref: "v1", Subdir: "d"}, map[string]string{"e/f": "deep"}},
		{solver.Git{Ref: "v1", Subdir: "/d/e/../e", KeepGitDir: true}, map[string]string{"f": "deep"}},
	} {
		tc.src.Remote = r.url
		got, err := files(t, c, tc.src)
		if err != nil {
			t.Errorf("%+v: %v", tc.src, err)
		} else if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%+v: (-want +got)\n%s", tc.src, diff)
		}
	}
}

func TestErrors(t *testing.T) {
	r := newRemote(t)
	absent := strings.Repeat("0123456789", 4)
	c := newClient(t)
	for _, tc := range []struct {
		src  solver.Git
		want string
	}{
		{solver.Git{Ref: "nope"}, "has no branch or tag nope"},
		{solver.Git{Ref: "abc123"}, "has no branch or tag abc123"},
		{solver.Git{Ref: "--upload-pack=x"}, "invalid name"},
		{solver.Git{Ref: absent}, "has no commit " + absent},
		{solver.Git{Ref: "v1", Checksum: "xyz"}, "hexadecimal"},
		{solver.Git{Ref: "v1", Checksum: "0123"}, "but the checksum says 0123"},
		{solver.Git{Ref: r.git("rev-parse", "v1"), Checksum: "0123"}, "but the checksum says 0123"},
		{solver.Git{ByCommit: true, Checksum: "0123"}, "the whole commit"},
		{solver.Git{ByCommit: true, Checksum: absent}, "has no commit " + absent},
		{solver.Git{Subdir: "nope"}, "there is no directory nope"},
		{solver.Git{Subdir: "a"}, "a in " + r.url + " is not a directory"},
		{solver.Git{Remote: r.url + "x"}, "there is no Git repository " + r.url + "x"},
		{solver.Git{Remote: "http://127.0.0.1:1/r.git"}, "cannot read the repository http://127.0.0.1:1/r.git"},
	} {
		if tc.src.Remote == "" {
			tc.src.Remote = r.url
		}
		_, err := files(t, c, tc.src)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v; want %q", tc.src, err, tc.want)
		}
	}
}

// A commit that was fetched is not fetched again; what is new is.
func TestFetchesOnce(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	src := solver.Git{Remote: r.url, Ref: r.git("rev-parse", "main")}
	if _, err := files(t, c, src); err != nil {
		t.Fatal(err)
	}
	before := r.posts()
	if before == 0 {
		t.Fatal("the server saw nothing of the first fetch")
	}
	if _, err := files(t, c, src); err != nil {
		t.Fatal(err)
	}
	if n := r.posts(); n != before {
		t.Errorf("%d requests for a commit that was here", n-before)
	}
	r.commit("three", map[string]string{"a": "three"})
	got, err := files(t, c, solver.Git{Remote: r.url})
	if err != nil || got["a"] != "three" {
		t.Errorf("after a new commit: %v, %v", got, err)
	}
	all, err := os.ReadDir(c.Dir)
	if err != nil || len(all) != 1 {
		t.Errorf("%d repositories of one remote, %v", len(all), err)
	}
}

// A branch that was rewritten is what it is now.
func TestRewrittenBranch(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	src := solver.Git{Remote: r.url, Ref: "main"}
	if _, err := files(t, c, src); err != nil {
		t.Fatal(err)
	}
	r.git("reset", "--quiet", "--hard", "v1")
	r.commit("other", map[string]string{"b": "other"})
	got, err := files(t, c, src)
	if err != nil || got["a"] != "one" || got["b"] != "other" {
		t.Errorf("%v, %v", got, err)
	}
}

// A branch may move between the question and the fetch.
func TestMovedBranch(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	src := solver.Git{Remote: r.url, Ref: "main"}
	at, err := c.Resolve(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	r.commit("three", map[string]string{"a": "three"})
	dir, release, err := c.Checkout(t.Context(), src, at)
	defer release()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(data) != "two" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestToken(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	r.ask = "sesame"
	host := strings.TrimPrefix(strings.TrimSuffix(r.url, "/r.git"), "http://")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("x:sesame"))
	for _, secrets := range []map[string]string{
		{"GIT_AUTH_TOKEN": "sesame"},
		{"GIT_AUTH_TOKEN": "sesame\n"},
		{"GIT_AUTH_HEADER": basic},
		{"GIT_AUTH_TOKEN." + host: "sesame", "GIT_AUTH_TOKEN": "wrong"},
		{"GIT_AUTH_HEADER." + host: basic, "GIT_AUTH_TOKEN." + host: "wrong"},
	} {
		c.Secret = func(id string) ([]byte, error) {
			if v, ok := secrets[id]; ok {
				return []byte(v), nil
			}
			return nil, fs.ErrNotExist
		}
		if _, err := files(t, c, solver.Git{Remote: r.url}); err != nil {
			t.Errorf("with %v: %v", slices.Collect(maps.Keys(secrets)), err)
		}
	}
	c.Secret = func(string) ([]byte, error) { return []byte("wrong"), nil }
	_, err := files(t, c, solver.Git{Remote: r.url})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint(), "GIT_AUTH_TOKEN") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong token: %v", err)
	}
}

// A password in a URL is used, and nobody sees it: not in errors, not in what is kept.
func TestPasswordInURL(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	r.ask = "sesame"
	url := strings.Replace(r.url, "http://", "http://me:sesame@", 1)
	got, err := files(t, c, solver.Git{Remote: url, KeepGitDir: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range got {
		if strings.Contains(text, "sesame") {
			t.Errorf("%s has the password", name)
		}
	}
	for _, bad := range []solver.Git{{Remote: url, Ref: "nope"}, {Remote: url + "x"}, {Remote: strings.Replace(url, "127.0.0.1", "127.0.0.1:1", 1)}} {
		if _, err := files(t, c, bad); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%v", err)
		}
	}
}

// A repository that is kept has the commit and its name, and works by itself.
func TestKeptRepository(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	for ref, name := range map[string]string{"": "refs/heads/main", "v1a": "refs/tags/v1a", "refs/pull/7/head": "refs/pull/7/head"} {
		src := solver.Git{Remote: r.url, Ref: ref, KeepGitDir: true}
		at, err := c.Resolve(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		dir, release, err := c.Checkout(t.Context(), src, at)
		defer release()
		if err != nil {
			t.Fatal(err)
		}
		ask := func(args ...string) string {
			cmd := exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=/dev/null"}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("git %s: %v: %s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		for _, q := range []struct{ got, want string }{
			{ask("rev-parse", "HEAD"), at.ID},
			{ask("status", "--short"), ""},
			{ask("for-each-ref", "--format=%(refname) %(objectname)"), name + " " + at.Object},
			{ask("remote", "get-url", "origin"), r.url},
			{ask("log", "--oneline", "--format=%H"), at.ID},
		} {
			if q.got != q.want {
				t.Errorf("%q: got %q, want %q", ref, q.got, q.want)
			}
		}
	}
}

func TestCommitTime(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	src := solver.Git{Remote: r.url, CommitTime: true}
	at, err := c.Resolve(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	dir, release, err := c.Checkout(t.Context(), src, at)
	defer release()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "a", "d", "d/e", "d/e/f"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !st.ModTime().Equal(time.Unix(981173106, 0)) {
			t.Errorf("%s: %v, %v", name, st.ModTime(), err)
		}
	}
}

// Nothing that a repository says makes git read files of this machine or run
// what is in its configuration.
func TestHostileSubmodule(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	r.commit("sub", map[string]string{".gitmodules": "[submodule \"s\"]\n\tpath = s\n\turl = file://" + r.dir + "\n"})
	r.git("update-index", "--add", "--cacheinfo", "160000,"+r.git("rev-parse", "v1")+",s")
	r.git("commit", "--quiet", "-m", "link")
	if got, err := files(t, c, solver.Git{Remote: r.url}); err == nil || !strings.Contains(err.Error(), "transport 'file' not allowed") {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := files(t, c, solver.Git{Remote: r.url, SkipSubmodules: true}); err != nil || got["a"] != "two" {
		t.Errorf("without submodules: %v, %v", got, err)
	}
}

// Submodules come along, relative to their repository, and leave no trace of where
// they were fetched.
func TestSubmodule(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	r.commit("sub", map[string]string{".gitmodules": "[submodule \"s\"]\n\tpath = s\n\turl = ../r.git\n"})
	r.git("update-index", "--add", "--cacheinfo", "160000,"+r.git("rev-parse", "v1")+",s")
	r.git("commit", "--quiet", "-m", "link")
	got, err := files(t, c, solver.Git{Remote: r.url})
	delete(got, ".gitmodules")
	want := map[string]string{"a": "two", "d/e/f": "deep", "s/a": "one", "s/d/e/f": "deep"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// What a killed process left of a fetch is in nobody's way.
func TestKilledFetch(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	if _, err := files(t, c, solver.Git{Remote: r.url, Ref: "v1"}); err != nil {
		t.Fatal(err)
	}
	repos, err := filepath.Glob(filepath.Join(c.Dir, "*.git"))
	if err != nil || len(repos) != 1 {
		t.Fatal(repos, err)
	}
	for _, lock := range []string{"shallow.lock", "config.lock"} {
		if err := os.WriteFile(filepath.Join(repos[0], lock), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := files(t, c, solver.Git{Remote: r.url}); err != nil {
		t.Error(err)
	}
}

func TestNoGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newClient(t).Resolve(t.Context(), solver.Git{Remote: "https://example.com/r.git"})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint(), "install git") {
		t.Error(err)
	}
}

func TestRedact(t *testing.T) {
	for remote, want := range map[string]string{
		"https://example.com/r.git":         "https://example.com/r.git",
		"https://me@example.com/r.git":      "https://me@example.com/r.git",
		"https://me:pw@example.com/r.git":   "https://me:***@example.com/r.git",
		"https://me:p%40w@example.com/r":    "https://me:***@example.com/r",
		"https://me:p@w@example.com/r.git":  "https://me:***@example.com/r.git",
		"https://:pw@example.com/r.git":     "https://:***@example.com/r.git",
		"git@example.com:owner/r.git":       "git@example.com:owner/r.git",
		"ssh://git:pw@example.com:22/r.git": "ssh://git:***@example.com:22/r.git",
	} {
		if got := Redact(remote); got != want {
			t.Errorf("Redact(%s) = %s, want %s", remote, got, want)
		}
	}
}
