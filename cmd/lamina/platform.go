package main

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/exporter"
	"lamina/frontend"
)

// platform is what --platform says, or else DOCKER_DEFAULT_PLATFORM, or else
// this machine's: the zero platform.
func (e *env) platform(flag string) (ocispec.Platform, error) {
	source := "--platform"
	if flag == "" {
		source, flag = "DOCKER_DEFAULT_PLATFORM", e.getenv("DOCKER_DEFAULT_PLATFORM")
	}
	if flag == "" {
		return ocispec.Platform{}, nil
	}
	return parsePlatform(source, flag)
}

// parsePlatform reads a platform that a flag or a variable gives.
func parsePlatform(source, s string) (ocispec.Platform, error) {
	p, err := frontend.ParsePlatform(s)
	if err == nil {
		return p, nil
	}
	var wrong *frontend.Error
	if errors.As(err, &wrong) && wrong.Hint != "" {
		return p, withHint(fmt.Errorf("%s: %w", source, err), "%s", wrong.Hint)
	}
	return p, fmt.Errorf("%s: %w", source, err)
}

// platformUsage describes --platform of commands that read one image.
const platformUsage = `Platform of a multi-platform image, "os[/arch[/variant]]"`

// choose reads the image for the platform that a flag names, if it does.
func (c *catalog) choose(ctx context.Context, e *env, i *storedImage, flag string) error {
	if flag == "" {
		return nil
	}
	p, err := e.platform(flag)
	if err != nil {
		return err
	}
	i.Image, err = exporter.ReadImage(ctx, c.store, i.Root, p)
	return err
}
