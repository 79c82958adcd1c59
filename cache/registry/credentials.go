package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
)

// credential is what a registry is told about who asks, as an
// [authn.Authenticator]. The zero value asks anonymously.
type credential struct {
	authn.AuthConfig
	source  string // where it was found
	trouble string // why some place could not be asked
}

var _ authn.Authenticator = credential{}

// Authorization returns what the library is to show for us.
func (c credential) Authorization() (*authn.AuthConfig, error) { return &c.AuthConfig, nil }

func (c credential) empty() bool { return c.AuthConfig == authn.AuthConfig{} }

func (c credential) who() string {
	switch {
	case c.empty():
		return "anonymous users"
	case c.Username == "" || c.IdentityToken != "" || c.RegistryToken != "":
		return "the holder of this token"
	}
	return fmt.Sprintf("user %q", c.Username)
}

// logins finds credentials where docker and podman keep them. It is no
// [authn.DefaultKeychain], because that reads one file only, knows neither
// $DOCKER_AUTH_CONFIG nor credentials for a part of a registry's repositories,
// and fails for every registry if the file or a helper does. The first of these
// places that knows the registry wins; in it, the longest prefix of
// "registry/repository" does:
//
//	$REGISTRY_AUTH_FILE
//	$DOCKER_AUTH_CONFIG                          the content itself
//	$XDG_RUNTIME_DIR/containers/auth.json        or /run/containers/<uid>/auth.json
//	$XDG_CONFIG_HOME/containers/auth.json        or ~/.config
//	$DOCKER_CONFIG/config.json                   or ~/.docker
//
// A place that cannot be read does not stop anything, because most images are
// public; why it could not is said if the registry then wants a login.
type logins struct {
	getenv func(string) string
	log    *slog.Logger

	once    sync.Once
	files   []authFile
	trouble []string
}

// authFile is the part of docker's config.json that containers' auth.json has too.
type authFile struct {
	path string

	Auths       map[string]json.RawMessage `json:"auths"` // authn.AuthConfig each; some may be malformed
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`
}

// find returns the credential for a repository, or an empty one.
func (l *logins) find(ctx context.Context, registry, repository string) credential {
	l.once.Do(l.load)
	trouble := append([]string(nil), l.trouble...)
	for _, f := range l.files {
		c, err := l.inFile(ctx, f, registry, repository)
		if err != nil {
			l.log.Debug("credentials not usable", "source", f.path, "error", err)
			trouble = append(trouble, err.Error())
		}
		if !c.empty() {
			l.log.Debug("credentials found", "registry", registry, "source", c.source)
			return c
		}
	}
	return credential{trouble: strings.Join(trouble, "; ")}
}

func (l *logins) load() {
	home := l.getenv("HOME")
	config := l.getenv("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	docker := l.getenv("DOCKER_CONFIG")
	if docker == "" && home != "" {
		docker = filepath.Join(home, ".docker")
	}
	l.read(l.getenv("REGISTRY_AUTH_FILE"), "")
	if data := l.getenv("DOCKER_AUTH_CONFIG"); data != "" {
		l.parse("$DOCKER_AUTH_CONFIG", []byte(data))
	}
	if runtime := l.getenv("XDG_RUNTIME_DIR"); runtime != "" {
		l.read(runtime, "containers/auth.json")
	} else {
		l.read("/run/containers", strconv.Itoa(os.Getuid())+"/auth.json")
	}
	l.read(config, "containers/auth.json")
	l.read(docker, "config.json")
}

func (l *logins) read(dir, name string) {
	if dir == "" {
		return
	}
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		l.trouble = append(l.trouble, err.Error())
	default:
		l.parse(path, data)
	}
}

func (l *logins) parse(path string, data []byte) {
	f := authFile{path: path}
	if err := json.Unmarshal(data, &f); err != nil {
		l.trouble = append(l.trouble, fmt.Sprintf("%s: %v", path, err))
		return
	}
	l.files = append(l.files, f)
}

func (l *logins) inFile(ctx context.Context, f authFile, registry, repository string) (credential, error) {
	for key := registry + "/" + repository; ; key = key[:strings.LastIndexByte(key, '/')] {
		for _, name := range slices.Sorted(maps.Keys(f.CredHelpers)) {
			if normalKey(name) == key {
				return l.ask(ctx, f.CredHelpers[name], name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(f.Auths)) {
			if normalKey(name) != key {
				continue
			}
			c := credential{source: f.path}
			if err := json.Unmarshal(f.Auths[name], &c.AuthConfig); err != nil {
				return credential{}, fmt.Errorf("%s: %q: %w", f.path, name, err)
			}
			c.Auth = "" // says the same as the user name and the password
			if !c.empty() {
				return c, nil
			}
		}
		if key == registry {
			break
		}
	}
	if f.CredsStore == "" {
		return credential{}, nil
	}
	if registry == dockerHub {
		registry = authn.DefaultAuthKey
	}
	return l.ask(ctx, f.CredsStore, registry)
}

// normalKey brings the many ways of writing a registry to the one in names.
// Only keys without a scheme have a path that means something.
func normalKey(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key, _, _ = strings.Cut(rest, "/")
	}
	key = strings.TrimSuffix(key, "/")
	host, path, _ := strings.Cut(key, "/")
	if isHub(host) {
		host = dockerHub
	}
	if path == "" || host == dockerHub && path == "v1" {
		return host
	}
	return host + "/" + path
}
