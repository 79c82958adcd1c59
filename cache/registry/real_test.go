package registry

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/google/go-cmp/cmp"
)

// startDistribution runs the registry that most registries are made of, until
// the test ends, and returns its address.
func startDistribution(t *testing.T, auth string) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	yaml := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n%s", dir, host, auth)
	if err := os.WriteFile(config, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd := exec.Command(program, "serve", config)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		if resp, err := http.Get("http://" + host + "/v2/"); err == nil {
			resp.Body.Close()
			return host
		}
		select {
		case <-exited:
			exited <- nil
			t.Fatalf("docker-registry ended:\n%s", output.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("docker-registry does not answer")
		}
	}
}

func TestDistribution(t *testing.T) {
	for _, tc := range []struct{ name, auth string }{
		{"open", ""},
		{"with htpasswd", "htpasswd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			auth := ""
			if tc.auth != "" {
				file := filepath.Join(t.TempDir(), "htpasswd")
				// "secret", by bcrypt.
				line := "me:$2y$05$1too9jLRPzfcOVcMdDfYw.aFcwryGfUt6WAStNAzEQTeLxmBwkib.\n"
				if err := os.WriteFile(file, []byte(line), 0o644); err != nil {
					t.Fatal(err)
				}
				auth = fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", file)
			}
			host := startDistribution(t, auth)
			client, _ := testClient(t, Options{Getenv: login(host, "me", "secret").get})
			base, app := testRepository(t, client, host+"/team/base"), testRepository(t, client, host+"/team/app")
			ctx := t.Context()

			var g errgroup.Group
			for i := range 6 {
				g.Go(func() error {
					blob, d := randomBlob(3<<20 + i)
					return base.Put(ctx, d, onlyReader{bytes.NewReader(blob)})
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			for i := range 6 {
				blob, d := randomBlob(3<<20 + i)
				checkContent(t, base, d, blob)
			}

			blob, d := randomBlob(3 << 20)
			if ok, err := app.Has(ctx, d); ok || err != nil {
				t.Errorf("Has before mounting: %v, %v", ok, err)
			}
			if ok, err := app.Mount(ctx, d, base.Name().Origin()); !ok || err != nil {
				t.Errorf("Mount: %v, %v", ok, err)
			}
			checkContent(t, app, d, blob)

			small, d := randomBlob(3<<20 + 77)
			app.host.piece.Store(1 << 20)
			put(t, app, d, small)
			app.host.piece.Store(0)
			checkContent(t, app, d, small)

			index, root := emptyIndex("one")
			put(t, app, root, index)
			if err := app.Tag(ctx, "v1", root); err != nil {
				t.Fatal(err)
			}
			got, err := client.Resolve(ctx, host+"/team/app:v1")
			if diff := cmp.Diff(root, got); diff != "" || err != nil {
				t.Errorf("Resolve: %v\n%s", err, diff)
			}
			checkContent(t, testRepository(t, client, host+"/team/app"), root, index)
			_, err = client.Resolve(ctx, host+"/team/app:v2")
			checkError(t, err, host, NotFound, "HOST/team/app:v2: not found in HOST", "check the name and the tag")
		})
	}
}
