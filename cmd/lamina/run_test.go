package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cmd/lamina/internal/cli"
	"lamina/runner"
	"lamina/snapshot"
)

func TestContainerArgs(t *testing.T) {
	for _, tc := range []struct {
		name            string
		entrypoint, cmd []string
		flag            *string
		args            []string
		want            []string
	}{
		{"cmd", nil, []string{"c"}, nil, nil, []string{"c"}},
		{"entrypoint and cmd", []string{"e"}, []string{"c"}, nil, nil, []string{"e", "c"}},
		{"arguments replace cmd", []string{"e"}, []string{"c"}, nil, []string{"a"}, []string{"e", "a"}},
		{"flag drops both", []string{"e"}, []string{"c"}, new("f"), nil, []string{"f"}},
		{"flag with arguments", []string{"e"}, []string{"c"}, new("f"), []string{"a"}, []string{"f", "a"}},
		{"empty flag", []string{"e"}, []string{"c"}, new(""), []string{"a"}, []string{"a"}},
		{"empty flag drops cmd", []string{"e"}, []string{"c"}, new(""), nil, nil},
		{"nothing", nil, nil, nil, nil, nil},
	} {
		var o runOptions
		if tc.flag != nil {
			o.setEntrypoint, o.entrypoint = true, *tc.flag
		}
		config := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Entrypoint: tc.entrypoint, Cmd: tc.cmd}}
		got, err := containerArgs(o, config, tc.args)
		if diff := cmp.Diff(tc.want, got); diff != "" || (err == nil) != (tc.want != nil) {
			t.Errorf("%s: %v (-want +got):\n%s", tc.name, err, diff)
		}
	}
}

func TestContainerEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	content := "\ufeffA=file\n# comment\n\n\tB=with = and spaces \nHERE\nC\nLANG\n"
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	e := &cli.Env{LookupEnv: environment{"HERE": "ours", "ALSO": "too", "NONE": ""}.lookup}
	got, err := containerEnv(e, runOptions{tty: true, envFiles: []string{file}, env: []string{"A=flag", "ALSO", "D=", "HOSTNAME=mine"}},
		[]string{"PATH=/bin", "LANG=C", "A=image", "C=image"}, "host")
	want := []string{
		"TERM=xterm", "PATH=/bin", "B=with = and spaces ", "HERE=ours", "A=flag", "ALSO=too", "D=", "HOSTNAME=mine",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"ok=1\nnot ok=1\n": `:2: "not ok" is not the name of a variable`,
		"=x\n":             `:1: "" is not the name of a variable`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readEnvFile(file); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestVolumeMount(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tc := range []struct {
		flag string
		want snapshot.Mount
		err  string
	}{
		{"/data", snapshot.Mount{Type: "bind", Source: ":/data", Target: "/data"}, ""},
		{dir + "/src:/data/", snapshot.Mount{Type: "bind", Source: dir + "/src", Target: "/data", Options: []string{"rbind"}}, ""},
		{"./sub:/data:ro,z", snapshot.Mount{Type: "bind", Source: dir + "/sub", Target: "/data", Options: []string{"rbind", "ro"}}, ""},
		{".:/data", snapshot.Mount{Type: "bind", Source: dir, Target: "/data", Options: []string{"rbind"}}, ""},
		{"name:/data", snapshot.Mount{}, "--volume=name:/data: named volumes are not supported: use a directory (./name)"},
		{"/src:data", snapshot.Mount{}, `--volume=/src:data: the target "data" is not absolute`},
		{"data", snapshot.Mount{}, `--volume=data: the target "data" is not absolute`},
		{"/a:/b:shared", snapshot.Mount{}, `--volume=/a:/b:shared: unknown option "shared"`},
		{"/a:/b:ro:x", snapshot.Mount{}, "--volume=/a:/b:ro:x: want [SOURCE:]TARGET[:OPTIONS]"},
	} {
		got, err := volumeMount(tc.flag)
		if err != nil || tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("%s: %v, want %s", tc.flag, err, tc.err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.flag, diff)
		}
	}
	if info, err := os.Stat("sub"); err != nil || !info.IsDir() {
		t.Errorf("a missing source was not made: %v, %v", info, err)
	}
}

func TestContainerMounts(t *testing.T) {
	o := runOptions{tmpfs: []string{"/a/b/c:mode=700,exec", "/z"}, volumes: []string{"/a/b"}}
	got, err := containerMounts(o, map[string]struct{}{"/a": {}, "/a/b/": {}, "/b": {}})
	want := []snapshot.Mount{
		{Type: "bind", Source: ":/a", Target: "/a"},
		{Type: "bind", Source: ":/b", Target: "/b"},
		{Type: "tmpfs", Target: "/z", Options: []string{"noexec", "mode=1777"}},
		{Type: "bind", Source: ":/a/b", Target: "/a/b"},
		{Type: "tmpfs", Target: "/a/b/c", Options: []string{"mode=700"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, tc := range []struct {
		o   runOptions
		err string
	}{
		{runOptions{volumes: []string{"/a", "/a"}}, "two mounts on /a"},
		{runOptions{volumes: []string{"/"}}, "nothing can be mounted on /"},
		{runOptions{tmpfs: []string{"x"}}, `--tmpfs=x: the target "x" is not absolute`},
	} {
		if _, err := containerMounts(tc.o, nil); err == nil || err.Error() != tc.err {
			t.Errorf("got %v, want %s", err, tc.err)
		}
	}
}

func TestContainerSpec(t *testing.T) {
	image := dockerspec.DockerOCIImage{}
	image.Config.Cmd, image.Config.WorkingDir, image.Config.User = []string{"c"}, "/image", "app"
	id := strings.Repeat("0123456789abcdef", 4)
	e := &cli.Env{LookupEnv: environment{}.lookup}
	got, err := containerSpec(e, runOptions{
		network: "none", memory: 1 << 30, pids: -1, addHosts: []string{"db:[::1]"}, security: []string{"no-new-privileges"},
		privileged: true, readOnly: true, init: true, ulimits: []string{"nofile=5"},
	}, id, image, nil)
	want := runner.Spec{
		ID: id, Args: []string{"c"}, Env: []string{"HOSTNAME=0123456789ab"}, Dir: "/image", User: "app",
		Hostname: "0123456789ab", Network: "none", Hosts: []string{"::1 db"},
		Limits:   runner.Limits{Memory: 1 << 30, Ulimits: []runner.Ulimit{{Name: "nofile", Soft: 5, Hard: 5}}},
		Insecure: true, HostDevices: true, ReadOnly: true, Init: true, NoNewPrivileges: true,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, tc := range []struct {
		o   runOptions
		err string
	}{
		{runOptions{dir: "x"}, "--workdir=x: must be absolute"},
		{runOptions{security: []string{"seccomp=x"}}, "--security-opt=seccomp=x: only no-new-privileges is supported"},
		{runOptions{env: []string{"=x"}}, "--env==x: there is no name"},
		{runOptions{addHosts: []string{"x"}}, "--add-host=x: want HOST:IP"},
	} {
		if _, err := containerSpec(e, tc.o, id, image, nil); err == nil || err.Error() != tc.err {
			t.Errorf("got %v, want %s", err, tc.err)
		}
	}
}
