package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

const (
	// dockerHub is what names call Docker Hub.
	dockerHub = "docker.io"

	defaultTag = "latest"

	// maxRepository is the longest repository name that registries accept
	// (distribution-spec, "Pulling manifests").
	maxRepository = 255
	maxTag        = 128
)

// Name is an image's name, taken apart.
type Name struct {
	// Registry is a host with an optional port; "docker.io" is Docker Hub.
	Registry string
	// Repository is the path in the registry: "library/debian".
	Repository string
	// Tag is empty only if Digest is not.
	Tag string
	// Digest is empty unless the name pins one. It then says what is meant, and
	// the tag is a remark.
	Digest digest.Digest
}

// ParseName takes s apart by docker's rules: "debian" means
// docker.io/library/debian:latest, and the part before the first slash is a
// registry if it has a dot, a colon or a capital in it, or is "localhost".
//
// go-containerregistry's own parser takes "a//b", "a/../b" and IDs for names,
// knows no registry by its capital, and drops the tag of what has a digest too.
func ParseName(s string) (Name, error) {
	n, err := parseName(s)
	if err != nil {
		return Name{}, fmt.Errorf("image name %q: %w", s, err)
	}
	return n, nil
}

func parseName(s string) (Name, error) {
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return Name{}, fmt.Errorf("leave out %s://", scheme)
	}
	var n Name
	rest, pinned, ok := strings.Cut(s, "@")
	if ok {
		n.Digest = digest.Digest(pinned)
		if err := n.Digest.Validate(); err != nil {
			return Name{}, fmt.Errorf("%q is no digest: %w", pinned, err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, n.Tag = rest[:i], rest[i+1:]
		if err := checkTag(n.Tag); err != nil {
			return Name{}, err
		}
	} else if n.Digest == "" {
		n.Tag = defaultTag
	}
	n.Registry, n.Repository = splitRegistry(rest)
	if err := checkRegistry(n.Registry); err != nil {
		return Name{}, err
	}
	if n.Registry == dockerHub {
		short := strings.TrimPrefix(n.Repository, "library/")
		if isHex64(short) {
			return Name{}, errors.New("64 hexadecimal digits are an image's ID, not a name")
		}
		if short != "" && !strings.Contains(short, "/") {
			n.Repository = "library/" + short
		}
	}
	if err := checkRepository(n.Repository); err != nil {
		return Name{}, err
	}
	return n, nil
}

// Origin is the repository in full, "docker.io/library/debian": where content
// came from, without tag and digest.
func (n Name) Origin() string { return n.Registry + "/" + n.Repository }

// String is the canonical name, with nothing left to convention.
func (n Name) String() string { return n.Origin() + n.suffix() }

// Familiar is the name as people write it: without docker.io and library.
func (n Name) Familiar() string {
	short := n.Origin()
	if rest, ok := strings.CutPrefix(short, dockerHub+"/"); ok {
		short = rest
		if rest, ok := strings.CutPrefix(rest, "library/"); ok && !strings.Contains(rest, "/") {
			short = rest
		}
	}
	return short + n.suffix()
}

// FamiliarRepository is the repository as people write it: "debian".
func (n Name) FamiliarRepository() string {
	return Name{Registry: n.Registry, Repository: n.Repository}.Familiar()
}

// Reference is what the registry is asked for: the digest if there is one, or
// the tag.
func (n Name) Reference() string {
	if n.Digest != "" {
		return n.Digest.String()
	}
	return n.Tag
}

func (n Name) suffix() string {
	var s string
	if n.Tag != "" {
		s = ":" + n.Tag
	}
	if n.Digest != "" {
		s += "@" + n.Digest.String()
	}
	return s
}

// splitRegistry decides whether s begins with a registry.
func splitRegistry(s string) (registry, repository string) {
	first, rest, ok := strings.Cut(s, "/")
	if !ok || (!strings.ContainsAny(first, ".:") && first != "localhost" && first == strings.ToLower(first)) {
		return dockerHub, s
	}
	if isHub(first) {
		first = dockerHub
	}
	return first, rest
}

// isHub tells the addresses of Docker Hub, which people write instead of its name.
func isHub(host string) bool { return host == name.DefaultRegistry || host == "registry-1.docker.io" }

func checkRegistry(s string) error {
	host := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		if _, err := strconv.ParseUint(s[i+1:], 10, 16); err != nil {
			return fmt.Errorf("registry %q: bad port %q", s, s[i+1:])
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return fmt.Errorf("registry %q: bad IPv6 address", s)
		}
		return nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.ContainsFunc(label, func(c rune) bool { return !isAlnum(c) && !isUpper(c) && c != '-' }) {
			return fmt.Errorf("registry %q is no host name", s)
		}
	}
	return nil
}

// checkRepository holds distribution-spec's grammar: components of lower-case
// letters and digits, joined inside by ".", "_", "__" or any number of "-".
func checkRepository(s string) error {
	switch {
	case s == "":
		return errors.New("the repository is missing")
	case len(s) > maxRepository:
		return fmt.Errorf("the repository has more than %d characters", maxRepository)
	case strings.ContainsFunc(s, isUpper):
		return errors.New("the repository must be in lower case")
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return fmt.Errorf("bad repository component %q", component)
		}
	}
	return nil
}

func validComponent(s string) bool {
	separator := ""
	for i, c := range s {
		switch {
		case isAlnum(c):
			dashes := strings.Trim(separator, "-") == ""
			if separator != "" && (i == len(separator) || (!dashes && separator != "." && separator != "_" && separator != "__")) {
				return false
			}
			separator = ""
		case c == '.' || c == '_' || c == '-':
			separator += string(c)
		default:
			return false
		}
	}
	return s != "" && separator == ""
}

func checkTag(s string) error {
	word := func(c rune) bool { return isAlnum(c) || isUpper(c) || c == '_' }
	if s == "" || len(s) > maxTag || !word(rune(s[0])) ||
		strings.ContainsFunc(s, func(c rune) bool { return !word(c) && c != '.' && c != '-' }) {
		return fmt.Errorf("bad tag %q", s)
	}
	return nil
}

func isAlnum(c rune) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
func isUpper(c rune) bool { return 'A' <= c && c <= 'Z' }

func isHex64(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
