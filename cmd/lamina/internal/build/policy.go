package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/policy"
	"lamina/frontend"
	"lamina/solver"
)

// Schemes of sources in a policy that are not those of URLs.
const (
	imageScheme = "docker-image://"
	gitScheme   = "git://"
	localScheme = "local://"
)

// readPolicy reads the source policy that --policy or docker's variable name;
// without one everything is allowed.
func readPolicy(flag string, getenv func(string) string) (*policy.Policy, error) {
	file, source := flag, "--policy="
	if file == "" {
		file, source = getenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"), "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY="
	}
	if file == "" {
		return &policy.Policy{}, nil
	}
	name := strings.TrimPrefix(file, "filename=")
	if filepath.Ext(name) == ".rego" {
		return nil, fmt.Errorf("%s%s: policies in Rego are not supported, but source policies in JSON are", source, file)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", source, file, err)
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", source, file, err)
	}
	return p, nil
}

// policedImage returns the image that the policy has for ref.
func (b *build) policedImage(ref string) (string, error) {
	name, err := registry.ParseName(ref)
	if err != nil {
		return "", err
	}
	was := imageScheme + name.String()
	now, err := b.policy.Apply(policy.Source{Identifier: was})
	if err != nil || now.Identifier == was {
		return ref, err
	}
	image, ok := strings.CutPrefix(now.Identifier, imageScheme)
	if !ok {
		return "", fmt.Errorf("the source policy converts %s to %s, which is not an image", was, now.Identifier)
	}
	return image, nil
}

// police puts what the policy says in place of the sources of g.
func (b *build) police(g *solver.Graph) error {
	for i, n := range g.Nodes {
		var err error
		switch op := n.Op.(type) {
		case solver.HTTP:
			g.Nodes[i].Op, err = b.policedURL(op)
		case solver.Git:
			g.Nodes[i].Op, err = b.policedGit(op)
		case solver.Local:
			_, err = b.policy.Apply(policy.Source{Identifier: localScheme + op.Name})
		}
		if err != nil {
			return &solver.Error{Node: n, Err: err}
		}
	}
	return nil
}

// checksumAttr is BuildKit's name for what a file from a URL must be.
const checksumAttr = "http.checksum"

func (b *build) policedURL(op solver.HTTP) (solver.HTTP, error) {
	s := policy.Source{Identifier: op.URL}
	if op.Checksum != "" {
		s.Attrs = map[string]string{checksumAttr: op.Checksum.String()}
	}
	s, err := b.policy.Apply(s)
	if err != nil {
		return op, err
	}
	if !strings.HasPrefix(s.Identifier, "http://") && !strings.HasPrefix(s.Identifier, "https://") {
		return op, fmt.Errorf("the source policy converts %s to %s, which is not its like", op.URL, s.Identifier)
	}
	op.URL = s.Identifier
	if sum := s.Attrs[checksumAttr]; sum != "" {
		if op.Checksum, err = digest.Parse(sum); err != nil {
			return op, fmt.Errorf("the source policy's checksum of %s: %w", op.URL, err)
		}
	}
	return op, nil
}

// BuildKit's names for a repository's URL, and for what a commit must be.
const (
	gitURLAttr      = "git.fullurl"
	gitChecksumAttr = "git.checksum"
)

// policedGit is as BuildKit has it: the identifier is "git://host/path#ref:dir"
// by whatever protocol, which is that of an attribute.
func (b *build) policedGit(op solver.Git) (solver.Git, error) {
	was := policy.Source{Identifier: gitIdentifier(op), Attrs: map[string]string{gitURLAttr: op.Remote}}
	if op.Checksum != "" {
		was.Attrs[gitChecksumAttr] = op.Checksum
	}
	now, err := b.policy.Apply(was)
	if err != nil {
		return op, err
	}
	if now.Identifier != was.Identifier {
		ref, ok, err := frontend.ParseGit(now.Identifier)
		if !ok || err != nil || !strings.HasPrefix(now.Identifier, gitScheme) {
			return op, fmt.Errorf("the source policy converts %s to %s, which is not its like", was.Identifier, now.Identifier)
		}
		op.Ref, op.Subdir = ref.Ref, ref.Subdir
		if before, _, _ := strings.Cut(was.Identifier, "#"); ref.Remote != before {
			op.Remote = "https://" + strings.TrimPrefix(ref.Remote, gitScheme)
		}
	}
	if url := now.Attrs[gitURLAttr]; url != was.Attrs[gitURLAttr] {
		op.Remote = url
	}
	op.Checksum = now.Attrs[gitChecksumAttr]
	return op, nil
}

// gitIdentifier names op without its protocol and without a user.
func gitIdentifier(op solver.Git) string {
	place := op.Remote
	if _, rest, ok := strings.Cut(place, "://"); ok {
		place = rest
	} else { // user@host:path
		place = strings.Replace(place, ":", "/", 1)
	}
	host, path, _ := strings.Cut(place, "/")
	id := gitScheme + host[strings.LastIndexByte(host, '@')+1:] + "/" + path
	if op.Ref != "" || op.Subdir != "" {
		id += "#" + op.Ref
	}
	if op.Subdir != "" {
		id += ":" + op.Subdir
	}
	return id
}
