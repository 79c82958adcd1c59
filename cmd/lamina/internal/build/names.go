package build

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
)

// imageName is a name that an image is to have.
type imageName struct {
	registry.Name
	given  string
	tagged bool   // whether given has a tag, which is else docker's usual one
	target string // the one of several targets that gets it
}

// imageNames parses the names that images are to have: those of --tag, and those
// of an output, which are a list. Where there are several targets each name says
// whose it is, as TARGET=NAME.
func imageNames(tags []string, more string, targets []string) ([]imageName, error) {
	if more != "" {
		list, err := csv.NewReader(strings.NewReader(more)).Read()
		if err != nil {
			return nil, fmt.Errorf("name=%s: %w", more, err)
		}
		tags = append(slices.Clone(tags), list...)
	}
	var names []imageName
	for _, s := range tags {
		n, err := parseImageName(strings.TrimSpace(s), targets)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

func parseImageName(s string, targets []string) (n imageName, err error) {
	target, name, ok := strings.Cut(s, "=")
	if !ok {
		target, name = "", s
	}
	if n.Name, err = registry.ParseName(name); err != nil {
		return n, err
	}
	if n.Digest != "" {
		return n, fmt.Errorf("%s: a name with a digest cannot be given to an image", s)
	}
	n.given, n.target = name, target
	n.tagged = strings.LastIndex(name, ":") > strings.LastIndex(name, "/")
	switch {
	case !ok && len(targets) > 1:
		return n, cli.WithHint(fmt.Errorf("--tag=%s: this build has %d targets, and the name does not say whose it is", s, len(targets)),
			"write it as --tag=%s=%s", targets[0], name)
	case ok && !slices.ContainsFunc(targets, func(t string) bool { return strings.EqualFold(t, target) }):
		return n, cli.WithHint(fmt.Errorf("--tag=%s: %s is not a target of this build", s, target), "add --target=%s", target)
	}
	return n, nil
}

// of returns the names among all that the image of stage gets.
func namesOf(all []imageName, stage string) []imageName {
	var names []imageName
	for _, n := range all {
		if n.target == "" || strings.EqualFold(n.target, stage) {
			names = append(names, n)
		}
	}
	return names
}
