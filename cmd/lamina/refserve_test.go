package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// serveCase serves files as of contextTime, with "/to/NAME" redirected to "/NAME",
// and "/named/X/NAME" is NAME that asks to be called X. "/status/CODE/NAME" answers
// CODE, and "/auth/NAME" wants to be asked by the user "u" with the password "p", or
// with the token "secret".
func serveCase(files map[string][]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if to, ok := strings.CutPrefix(name, "to/"); ok {
			http.Redirect(w, r, "/"+to, http.StatusFound)
			return
		}
		if rest, ok := strings.CutPrefix(name, "named/"); ok {
			as, to, _ := strings.Cut(rest, "/")
			w.Header().Set("Content-Disposition", `attachment; filename="`+as+`"`)
			name = to
		}
		if rest, ok := strings.CutPrefix(name, "status/"); ok {
			code, _, _ := strings.Cut(rest, "/")
			n, err := strconv.Atoi(code)
			if err != nil {
				n = http.StatusBadRequest
			}
			http.Error(w, "as was asked for", n)
			return
		}
		if to, ok := strings.CutPrefix(name, "auth/"); ok {
			user, password, _ := r.BasicAuth()
			if (user != "u" || password != "p") && r.Header.Get("Authorization") != "Bearer secret" {
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			name = to
		}
		when := contextTime
		if to, ok := strings.CutPrefix(name, "undated/"); ok {
			name, when = to, time.Time{}
		}
		data, ok := files[strings.TrimSuffix(name, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, path.Base(name), when, bytes.NewReader(data))
	})
}

// serve returns the server at url of the files http/… and of the Git repositories
// git/NAME, which it makes in dir. NAME.git is at
//
//	$HTTP/git/NAME.git       for git's own protocol
//	$HTTP/dumb/NAME.git      as plain files
//	$HTTP/private/NAME.git   if the token is "secret"
//
// The section git/NAME is a shell script that makes commits, always at the same
// time. $REV(NAME:REVISION) is the ID of one, in the Dockerfile too.
func (c *refCase) serve(dir, url string) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/", serveCase(c.served()))
	c.repos = dir
	for _, f := range c.archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "git/"); ok {
			if err := c.makeRepository(name, f, url); err != nil {
				return nil, err
			}
		}
	}
	mux.Handle("/dumb/", http.StripPrefix("/dumb/", http.FileServer(http.Dir(dir))))
	mux.Handle("/git/", gitBackend("/git", dir))
	mux.HandleFunc("/private/", func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "x-access-token" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		gitBackend("/private", dir).ServeHTTP(w, r)
	})
	return mux, nil
}

// gitBackend serves the repositories in dir below the path root.
func gitBackend(root, dir string) http.Handler {
	git, err := exec.LookPath("git")
	if err != nil {
		return http.NotFoundHandler()
	}
	return &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Root: root,
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}
}

func (c *refCase) makeRepository(name string, f txtar.File, url string) error {
	script, err := c.expand(string(f.Data), url)
	if err != nil {
		return err
	}
	repo, work := filepath.Join(c.repos, name+".git"), filepath.Join(c.repos, name)
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	env := append(gitEnv(), "GIT_DIR="+repo, "GIT_WORK_TREE="+work)
	for _, args := range [][]string{
		{"git", "init", "--quiet"}, {"sh", "-ec", script}, {"git", "update-server-info"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = work, env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", f.Name, err, out)
		}
	}
	return nil
}

// gitEnv makes commits the same each time.
func gitEnv() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		env = append(env, "GIT_"+who+"_NAME=a", "GIT_"+who+"_EMAIL=a@example.com", "GIT_"+who+"_DATE=981173106 +0000")
	}
	return append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main")
}

var revision = regexp.MustCompile(`\$REV\(([^():]+):([^():]+)\)`)

// expand replaces what the sections of a case may use of its server.
func (c *refCase) expand(text, server string) (string, error) {
	var errs error
	text = revision.ReplaceAllStringFunc(text, func(s string) string {
		m := revision.FindStringSubmatch(s)
		cmd := exec.Command("git", "--git-dir="+filepath.Join(c.repos, m[1]+".git"), "rev-parse", m[2])
		cmd.Env = gitEnv()
		out, err := cmd.Output()
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", s, err))
		}
		return strings.TrimSpace(string(out))
	})
	_, host, _ := strings.Cut(server, "//")
	return strings.NewReplacer("$HTTP", server, "$HOST", host).Replace(text), errs
}

// flags are the arguments of the build of what was written to dir and file.
func (c *refCase) flags(dir, file, server string) ([]string, error) {
	context, err := c.expand(strings.TrimSpace(c.section("context")), server)
	if err != nil {
		return nil, err
	}
	var flags []string
	if context == "" {
		flags, context = []string{"-f", file}, dir
	}
	for _, arg := range c.args() {
		if arg, err = c.expand(strings.ReplaceAll(arg, "CTX", dir), server); err != nil {
			return nil, err
		}
		flags = append(flags, arg)
	}
	return append(flags, context), nil
}
