package registry

import (
	"cmp"
	"context"
	"encoding/base64"
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
)

// hubKey is what Docker Hub is called in configuration files and by helpers.
const hubKey = "https://index.docker.io/v1/"

// credential is what a registry is told about who asks. The zero value asks
// anonymously.
type credential struct {
	user, password string
	identity       string // an OAuth2 refresh token, to be exchanged for a bearer token
	bearer         string // a bearer token, to be sent as it is
	source         string // where it was found
	trouble        string // why some place could not be asked
}

func (c credential) empty() bool {
	return c.user == "" && c.password == "" && c.identity == "" && c.bearer == ""
}

func (c credential) who() string {
	switch {
	case c.empty():
		return "anonymous users"
	case c.user == "" || c.identity != "" || c.bearer != "":
		return "the holder of this token"
	}
	return fmt.Sprintf("user %q", c.user)
}

// logins finds credentials where docker and podman keep them. The first of these
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

	Auths       map[string]authEntry `json:"auths"`
	CredsStore  string               `json:"credsStore"`
	CredHelpers map[string]string    `json:"credHelpers"`
}

type authEntry struct {
	Auth          string `json:"auth"` // base64 of "user:password"
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
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
			c, err := f.Auths[name].credential()
			if err != nil {
				return c, fmt.Errorf("%s: %q: %w", f.path, name, err)
			}
			if !c.empty() {
				c.source = f.path
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
		registry = hubKey
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
	if host == "index.docker.io" || host == hubHost {
		host = dockerHub
	}
	if path == "" || host == dockerHub && path == "v1" {
		return host
	}
	return host + "/" + path
}

func (e authEntry) credential() (credential, error) {
	c := credential{user: e.Username, password: e.Password, identity: e.IdentityToken, bearer: e.RegistryToken}
	if e.Auth == "" {
		return c, nil
	}
	data, err := base64.StdEncoding.DecodeString(e.Auth)
	if err != nil {
		data, err = base64.RawStdEncoding.DecodeString(e.Auth)
	}
	user, password, ok := strings.Cut(string(data), ":")
	if err != nil || !ok {
		return credential{}, errors.New("auth is not the base64 of user:password")
	}
	c.user, c.password = cmp.Or(c.user, user), cmp.Or(c.password, strings.TrimRight(password, "\x00"))
	return c, nil
}
