package build

import (
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/exporter"
	"lamina/frontend"
)

// annotation is one that an image gets (OCI image-spec, annotations.md).
type annotation struct {
	place      string // one of annotationPlaces
	platform   *ocispec.Platform
	key, value string
}

// annotationPlaces are where annotations go: into a document, or beside the digest
// that refers to it.
var annotationPlaces = [...]string{"manifest", "manifest-descriptor", "index", "index-descriptor"}

// parseAnnotations parses the values of --annotation, which are
// "[PLACE[[PLATFORM]][,…]:]KEY=VALUE".
func parseAnnotations(flags []string) ([]annotation, error) {
	var all []annotation
	for _, s := range flags {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--annotation=%s: want KEY=VALUE", s)
		}
		places, name, ok := strings.Cut(key, ":")
		if !ok {
			places, name = "manifest", key
		}
		for place := range strings.SplitSeq(places, ",") {
			a, err := parsePlace(place)
			if err == nil && (name == "" || strings.ContainsAny(name, " \t\n")) {
				err = fmt.Errorf("%q is not a key", name)
			}
			if err != nil {
				return nil, fmt.Errorf("--annotation=%s: %w", s, err)
			}
			a.key, a.value = name, value
			all = append(all, a)
		}
	}
	return all, nil
}

// parseAnnotationOption parses an option of --output,
// "annotation[-PLACE][[PLATFORM]].KEY=VALUE".
func parseAnnotationOption(option, value string) (annotation, error) {
	place, key, ok := strings.Cut(option, ".")
	// The platform may have dots, too.
	if open := strings.Index(option, "["); ok && open >= 0 && open < len(place) {
		end := strings.Index(option, "].")
		if end < 0 {
			return annotation{}, fmt.Errorf("%s: there is no \"]\" after the platform", option)
		}
		place, key = option[:end+1], option[end+2:]
	}
	if !ok || key == "" || strings.ContainsAny(key, " \t\n") {
		return annotation{}, fmt.Errorf("%s: want annotation.KEY=VALUE", option)
	}
	place = strings.TrimPrefix(place, "annotation")
	if place == "" || place[0] == '[' {
		place = "manifest" + place
	}
	a, err := parsePlace(strings.TrimPrefix(place, "-"))
	a.key, a.value = key, value
	return a, err
}

// parsePlace parses "PLACE" or "PLACE[PLATFORM]".
func parsePlace(s string) (a annotation, err error) {
	place, platform, ok := strings.Cut(s, "[")
	if ok {
		platform, ok = strings.CutSuffix(platform, "]")
		if !ok {
			return a, fmt.Errorf("%s: there is no \"]\" after the platform", s)
		}
		p, err := frontend.ParsePlatform(platform)
		if err != nil {
			return a, err
		}
		a.platform = &p
	}
	a.place = place
	if !slices.Contains(annotationPlaces[:], place) {
		return a, fmt.Errorf("unknown kind of annotation %q, want %s", place, strings.Join(annotationPlaces[:], ", "))
	}
	if a.platform != nil && strings.HasPrefix(place, "index") {
		return a, fmt.Errorf("%s: an index is for all platforms", s)
	}
	return a, nil
}

// noteCreated annotates images with their own times.
func noteCreated(images []exporter.Output) {
	for i := range images {
		if when := images[i].Config.Created; when != nil {
			images[i].Annotations = map[string]string{ocispec.AnnotationCreated: when.UTC().Format(time.RFC3339)}
		}
	}
}

// annotate adds annotations to images of one target and to the options of packing
// them.
func annotate(all []annotation, images []exporter.Output, opt *exporter.PackOptions) {
	put := func(m *map[string]string, a annotation) {
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[a.key] = a.value
	}
	// Those for one platform come last, since they say more.
	for _, specific := range []bool{false, true} {
		for _, a := range all {
			if specific != (a.platform != nil) {
				continue
			}
			switch a.place {
			case "index":
				put(&opt.IndexAnnotations, a)
				continue
			case "index-descriptor":
				put(&opt.IndexDescriptorAnnotations, a)
				continue
			}
			for i := range images {
				if specific && frontend.FormatPlatform(images[i].Platform) != frontend.FormatPlatform(*a.platform) {
					continue
				}
				if a.place == "manifest" {
					put(&images[i].Annotations, a)
				} else {
					put(&images[i].DescriptorAnnotations, a)
				}
			}
		}
	}
}
