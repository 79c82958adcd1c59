package registry

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
)

// writeFiles makes files below a new directory, which it returns.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func auths(key, user string) string {
	return `{"auths":{"` + key + `":{"username":"` + user + `","password":"pw"}}}`
}

// Each place is only asked for what the ones before it do not know.
func TestLoginPlaces(t *testing.T) {
	root := writeFiles(t, map[string]string{
		"explicit.json":                        auths("r1.io", "explicit"),
		"run/containers/auth.json":             `{"auths":{"r1.io":{"auth":"cnVudGltZTpwdw=="},"r3.io":{"auth":"cnVudGltZTpwdw"}}}`,
		"home/.config/containers/auth.json":    auths("r4.io", "config"),
		"home/.docker/config.json":             auths("r5.io", "docker"),
		"xdg/containers/auth.json":             auths("r4.io", "xdg"),
		"docker/config.json":                   auths("r5.io", "dockerconfig"),
		"broken/containers/auth.json/a/folder": "",
	})
	usual := env{
		"REGISTRY_AUTH_FILE": filepath.Join(root, "explicit.json"),
		"DOCKER_AUTH_CONFIG": `{"auths":{"r1.io":{"auth":"ZW52OnB3"},"r2.io":{"auth":"ZW52OnB3"}}}`,
		"XDG_RUNTIME_DIR":    filepath.Join(root, "run"),
		"HOME":               filepath.Join(root, "home"),
	}
	moved := env{
		"XDG_RUNTIME_DIR": filepath.Join(root, "broken"),
		"XDG_CONFIG_HOME": filepath.Join(root, "xdg"),
		"DOCKER_CONFIG":   filepath.Join(root, "docker"),
		"HOME":            filepath.Join(root, "home"),
	}
	for _, tc := range []struct {
		env            env
		registry, user string
	}{
		{usual, "r1.io", "explicit"},
		{usual, "r2.io", "env"},
		{usual, "r3.io", "runtime"},
		{usual, "r4.io", "config"},
		{usual, "r5.io", "docker"},
		{usual, "r6.io", ""},
		{moved, "r1.io", ""},
		{moved, "r4.io", "xdg"},
		{moved, "r5.io", "dockerconfig"},
	} {
		l := &logins{getenv: tc.env.get, log: slog.New(slog.DiscardHandler)}
		got := l.find(t.Context(), tc.registry, "app")
		if got.Username != tc.user {
			t.Errorf("%s: got user %q from %s, want %q", tc.registry, got.Username, got.source, tc.user)
		}
		if tc.user != "" && got.Password != "pw" {
			t.Errorf("%s: got password %q", tc.registry, got.Password)
		}
	}
}

func TestLoginKeys(t *testing.T) {
	for _, tc := range []struct {
		name, config         string
		registry, repository string
		want                 string // user
	}{
		{"hub's own key", auths("https://index.docker.io/v1/", "me"), "docker.io", "library/debian", "me"},
		{"hub's short key", auths("docker.io", "me"), "docker.io", "library/debian", "me"},
		{"a URL", auths("https://r.io/v2/", "me"), "r.io", "app", "me"},
		{"a port", auths("r.io:5000", "me"), "r.io:5000", "app", "me"},
		{"another port", auths("r.io:5000", "me"), "r.io", "app", ""},
		{"a namespace", auths("r.io/team", "me"), "r.io", "team/app", "me"},
		{"another namespace", auths("r.io/team", "me"), "r.io", "teams/app", ""},
		{
			"the longest prefix",
			`{"auths":{"r.io":{"username":"a"},"r.io/team/app":{"username":"c"},"r.io/team":{"username":"b"}}}`,
			"r.io", "team/app", "c",
		},
		{
			"the next prefix",
			`{"auths":{"r.io":{"username":"a"},"r.io/team/app":{"username":"c"},"r.io/team":{"username":"b"}}}`,
			"r.io", "team/application", "b",
		},
		{"an empty entry", `{"auths":{"r.io":{}}}`, "r.io", "app", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &logins{
				getenv: env{"DOCKER_AUTH_CONFIG": tc.config, "XDG_RUNTIME_DIR": t.TempDir()}.get,
				log:    slog.New(slog.DiscardHandler),
			}
			if got := l.find(t.Context(), tc.registry, tc.repository); got.Username != tc.want {
				t.Errorf("got user %q, want %q", got.Username, tc.want)
			}
		})
	}
}

func TestCredentialHelpers(t *testing.T) {
	root := writeFiles(t, map[string]string{
		// A store that knows Docker Hub, has a token for r1.io, and no more.
		"bin/docker-credential-store": `#!/bin/sh
[ "$1" = get ] || exit 2
read -r server
case "$server" in
https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"pw"}' ;;
r1.io) echo '{"ServerURL":"x","Username":"<token>","Secret":"identity"}' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
`,
		"bin/docker-credential-broken": "#!/bin/sh\necho 'no display' >&2; exit 3\n",
		"bin/docker-credential-odd":    "#!/bin/sh\necho hello\n",
		"docker/config.json": `{
			"credsStore": "store",
			"auths": {"r1.io": {}, "r2.io": {"auth": "ZmlsZTpwdw=="}, "r6.io": {"auth": "!"}},
			"credHelpers": {"r3.io": "broken", "r4.io": "missing", "r5.io": "odd", "r7.io": "../docker-credential-store"}
		}`,
	})
	l := &logins{
		getenv: env{
			"DOCKER_CONFIG": filepath.Join(root, "docker"), "XDG_RUNTIME_DIR": root,
			"PATH": "bin:" + filepath.Join(root, "nowhere") + ":" + filepath.Join(root, "bin"),
		}.get,
		log: slog.New(slog.DiscardHandler),
	}
	config := filepath.Join(root, "docker/config.json")
	for _, tc := range []struct {
		registry string
		want     credential
	}{
		{"docker.io", credential{AuthConfig: authn.AuthConfig{Username: "hub", Password: "pw"}, source: "docker-credential-store"}},
		{"r1.io", credential{AuthConfig: authn.AuthConfig{IdentityToken: "identity"}, source: "docker-credential-store"}},
		{"r2.io", credential{AuthConfig: authn.AuthConfig{Username: "file", Password: "pw"}, source: config}},
		{"r3.io", credential{trouble: "docker-credential-broken: no display: exit status 3"}},
		{"r4.io", credential{trouble: "docker-credential-missing: executable file not found in $PATH"}},
		{"r5.io", credential{trouble: "docker-credential-odd: invalid character 'h' looking for beginning of value"}},
		{"r6.io", credential{trouble: config + `: "r6.io": unable to decode auth field: illegal base64 data at input byte 0`}},
		{"r7.io", credential{trouble: `"docker-credential-../docker-credential-store" is no credential helper`}},
		{"r8.io", credential{}},
	} {
		t.Run(tc.registry, func(t *testing.T) {
			got := l.find(t.Context(), tc.registry, "team/app")
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(credential{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
