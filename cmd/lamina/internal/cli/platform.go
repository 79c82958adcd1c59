package cli

import (
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/frontend"
)

// Platform is what --platform says, or else DOCKER_DEFAULT_PLATFORM, or else
// this machine's: the zero platform.
func (e *Env) Platform(flag string) (ocispec.Platform, error) {
	source := "--platform"
	if flag == "" {
		source, flag = "DOCKER_DEFAULT_PLATFORM", e.Getenv("DOCKER_DEFAULT_PLATFORM")
	}
	if flag == "" {
		return ocispec.Platform{}, nil
	}
	return ParsePlatform(source, flag)
}

// ParsePlatform reads a platform that a flag or a variable gives.
func ParsePlatform(source, s string) (ocispec.Platform, error) {
	p, err := frontend.ParsePlatform(s)
	if err == nil {
		return p, nil
	}
	var wrong *frontend.Error
	if errors.As(err, &wrong) && wrong.Hint != "" {
		return p, WithHint(fmt.Errorf("%s: %w", source, err), "%s", wrong.Hint)
	}
	return p, fmt.Errorf("%s: %w", source, err)
}

// PlatformUsage describes --platform of commands that read one image.
const PlatformUsage = `Platform of a multi-platform image, "os[/arch[/variant]]"`
