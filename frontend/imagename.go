package frontend

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxRepository is how long the name of an image may be without its registry.
const maxRepository = 255

// The grammar of image names: a registry, a path, a tag and a digest. A name
// without a registry has one by the time it is compared.
var (
	imageName = pattern(`^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?)` +
		`/([a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)` +
		`(?::\w[\w.-]{0,127})?` +
		`(?:@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?$`)
	imageID = pattern(`^[0-9a-f]{64}$`)
)

// checkImageName tells what is wrong with the name of an image, of a stage that
// nobody needs, too: such a Dockerfile has a mistake wherever the build ends.
func checkImageName(ref string) error {
	if imageID().MatchString(ref) {
		return wrong("give its name, or name@sha256:…", "invalid image name %s: this is an image's ID", ref)
	}
	registry, rest := splitImageName(ref)
	if path, _, _ := strings.Cut(rest, ":"); strings.ToLower(path) != path {
		return wrong("stage names keep their case here, and images have none", "invalid image name %q: it has capital letters", ref)
	}
	m := imageName().FindStringSubmatch(registry + "/" + rest)
	var err error
	switch {
	case m == nil:
		err = errors.New("it should look like registry/name:tag")
	case len(m[1]) > maxRepository:
		err = fmt.Errorf("it is longer than %d characters", maxRepository)
	case m[2] != "":
		_, err = digest.Parse(m[2])
	}
	if err != nil {
		return wrong("", "invalid image name %q: %v", ref, err)
	}
	return nil
}

// splitImageName splits the registry off ref, which is Docker Hub's if ref names none.
func splitImageName(ref string) (registry, rest string) {
	const hub, official = "docker.io", "library/"
	registry, rest, ok := strings.Cut(ref, "/")
	if !ok || registry != "localhost" && !strings.ContainsAny(registry, ".:") && strings.ToLower(registry) == registry {
		registry, rest = hub, ref
	}
	if registry == "index.docker.io" {
		registry = hub
	}
	if registry == hub && !strings.Contains(rest, "/") {
		rest = official + rest
	}
	return registry, rest
}
