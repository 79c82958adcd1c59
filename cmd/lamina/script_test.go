package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lamina/cache/registry/registrytest"
	"lamina/runner"
	"lamina/snapshot/overlay"
)

func TestMain(m *testing.M) {
	runner.Init()
	testscript.Main(m, map[string]func(){"lamina": main, "stuck": stuck})
}

// TestScripts runs testdata/script/<command>_<topic>.txtar, which are this
// program's documentation by example. In them
//
//	$REGISTRY     is a registry of the script's own
//	$BUSYBOX      is a static busybox, if this machine has one
//	mkimage       makes an image, see makeImage
//	serve DIR     makes $HTTP a server of the files in DIR; the Git repositories
//	              there are at $HTTP/git/
//
// and [root], [userns] and [overlay] tell what this machine lets us do; [run], that
// RUN works and there is a busybox to run.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "../../testdata/script",
		RequireUniqueNames: true,
		Condition:          condition,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"mkimage": makeImage, "serve": serveFiles},
		Setup: func(e *testscript.Env) error {
			reg := registrytest.Start()
			e.Defer(reg.Close)
			e.Setenv("REGISTRY", reg.Host)
			e.Setenv("LAMINA_ROOT", filepath.Join(e.WorkDir, "store"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("TZ", "UTC")
			busybox, _ := exec.LookPath("busybox")
			e.Setenv("BUSYBOX", busybox)
			return nil
		},
	})
}

// condition tells whether this machine can do what a script needs.
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "run":
		_, err := exec.LookPath("busybox")
		return err == nil && runner.Supported() == nil, nil
	case "userns":
		return exec.Command("unshare", "--user", "--map-root-user", "true").Run() == nil, nil
	case "overlay":
		dir, err := os.MkdirTemp("", "lamina-overlay-")
		if err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
		return os.Geteuid() == 0 && overlay.Supported(dir) == nil, nil
	}
	return false, os.ErrInvalid
}

// serveFiles is the command "serve DIR".
func serveFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve DIR")
	}
	dir := ts.MkAbs(args[0])
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	mux.Handle("/git/", gitBackend("/git", dir))
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("HTTP", server.URL)
}
