package build

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter"
)

// parseOutput parses one "type=KIND,dest=PATH,…", or a path alone, which is
// docker's short form of type=local; "-" is short for type=tar.
func parseOutput(s string) (output, error) {
	fields, err := csvFields(s)
	if err != nil {
		return output{}, err
	}
	if s != "" && len(fields) == 1 && !strings.Contains(s, "=") {
		if s == "-" {
			return output{kind: "tar", dest: "-"}, nil
		}
		return output{kind: "local", dest: s}, nil
	}
	var out output
	for _, f := range fields {
		if f.key == "type" {
			out.setKind(f.value)
		}
	}
	if err := out.checkKind(); err != nil {
		return output{}, err
	}
	for _, f := range fields {
		if err := out.set(f.key, f.value); err != nil {
			return output{}, err
		}
	}
	return out, out.check()
}

func (out *output) setKind(kind string) {
	out.kind = kind
	if kind == "registry" {
		out.kind, out.push = "image", true
	}
}

func (out *output) checkKind() error {
	kinds := []string{"image", "registry", "oci", "docker", "tar", "local", "cacheonly"}
	switch {
	case out.kind == "":
		return errors.New("there is no type=")
	case !slices.Contains(kinds, out.kind):
		return fmt.Errorf("unknown type %q, want image, registry, oci, docker, tar, local or cacheonly", out.kind)
	}
	return nil
}

// outputOption is an option of --output: the types of output that have it, and
// what sets it.
type outputOption struct {
	kinds string
	set   func(out *output, value string) error
}

const (
	ofImages = "image oci docker"
	ofFiles  = "tar local"
)

// outputOptions are the options by name: those of the reference's exporters
// (BuildKit, exporter/*, "Resolve") and of buildx.
func outputOptions() map[string]outputOption {
	return map[string]outputOption{
		"type": {ofImages + " " + ofFiles + " cacheonly", func(*output, string) error { return nil }},
		"dest": {"oci docker " + ofFiles, func(out *output, v string) error { out.dest = v; return nil }},
		"tar":  {"oci docker", toggle(func(out *output, tar bool) { out.dir = !tar })},

		"name":              {ofImages, func(out *output, v string) error { out.name = v; return nil }},
		"push":              {"image", toggle(func(out *output, v bool) { out.push = v })},
		"push-by-digest":    {"image", toggle(func(out *output, v bool) { out.byDigest = v })},
		"store":             {"image", toggle(func(out *output, v bool) { out.unstored = !v })},
		"registry.insecure": {"image", toggle(func(out *output, v bool) { out.insecure = v })},
		"dangling-name-prefix": {"image", func(out *output, v string) error {
			n, err := registry.ParseName(v)
			out.prefix = &n
			return err
		}},
		"dangling-name-empty-only": {"image", toggle(func(out *output, v bool) { out.prefixAlone = v })},
		"danging-name-empty-only":  {"image", toggle(func(out *output, v bool) { out.prefixAlone = v })}, // as BuildKit spells it
		"context": {"docker", func(out *output, v string) error {
			out.notes = append(out.notes, "there is no docker to load into but this store")
			return nil
		}},
		"name-canonical":        {"image", idle("every image in the store can be named by its digest")},
		"unpack":                {"image", idle("a build's layers are unpacked where they were made")},
		"prefer-nondist-layers": {ofImages, idle("layers that may not be distributed keep their media type")},
		"attestation-inline":    {ofImages, idle("attestations are always in the image's index")},

		"compression": {ofImages, func(out *output, v string) error {
			out.pack.Compression = exporter.Compression(v)
			return nil
		}},
		"compression-level": {ofImages, func(out *output, v string) error {
			level, err := strconv.Atoi(v)
			out.pack.Level = &level
			return err
		}},
		"force-compression": {ofImages, toggle(func(out *output, v bool) { out.pack.Force = v })},
		"oci-mediatypes":    {ofImages, toggle(func(out *output, v bool) { out.pack.DockerTypes = !v })},
		"oci-artifact":      {ofImages, toggle(func(out *output, v bool) { out.pack.ImageAttestations = !v })},
		"rewrite-timestamp": {ofImages, toggle(func(out *output, v bool) { out.rewrite = v })},
		"source-date-epoch": {ofImages + " " + ofFiles, func(out *output, v string) (err error) {
			out.epoch, err = parseEpoch(v)
			return err
		}},
		"platform-split": {ofFiles, toggle(func(out *output, v bool) { out.split = &v })},
		"mode": {"local", func(out *output, v string) error {
			out.remove = v == "delete"
			if !cli.OneOf(v, "copy", "delete") {
				return errors.New("want copy or delete")
			}
			return nil
		}},
	}
}

// toggle is an option that is true or false; without a value it is true, as it is
// for the reference.
func toggle(set func(out *output, v bool)) func(*output, string) error {
	return func(out *output, value string) error {
		v := true
		if value != "" {
			var err error
			if v, err = strconv.ParseBool(value); err != nil {
				return errors.New("want true or false")
			}
		}
		set(out, v)
		return nil
	}
}

// idle is an option that is true or false and changes nothing here, because why.
func idle(why string) func(*output, string) error {
	return toggle(func(out *output, v bool) {
		if v {
			out.notes = append(out.notes, why)
		}
	})
}

// set sets one option.
func (out *output) set(key, value string) error {
	if strings.HasPrefix(key, "annotation") && key != "annotation" && out.isImage() {
		a, err := parseAnnotationOption(key, value)
		out.annotations = append(out.annotations, a)
		return err
	}
	all := outputOptions()
	option, ok := all[key]
	switch {
	case !ok:
		return unknownOption(key, slices.Sorted(maps.Keys(all)))
	case !slices.Contains(strings.Fields(option.kinds), out.kind):
		return fmt.Errorf("type=%s has no option %q: it is of type=%s", out.kind, key, strings.ReplaceAll(option.kinds, " ", ", type="))
	}
	notes := len(out.notes)
	if err := option.set(out, value); err != nil {
		if number := (*strconv.NumError)(nil); errors.As(err, &number) {
			err = errors.New("not a valid value") // the parser's word for it is no help
		}
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	if len(out.notes) > notes {
		out.notes[notes] = fmt.Sprintf("--output: %s has no effect: %s", key, out.notes[notes])
	}
	return nil
}

// unknownOption says which of known may have been meant.
func unknownOption(key string, known []string) error {
	err := fmt.Errorf("unknown option %q", key)
	if best := cli.Nearest(key, known, min(4, len(key))); best != "" {
		return cli.WithHint(err, "did you mean %s?", best)
	}
	return err
}

// parseEpoch reads seconds since 1970; nothing means none.
func parseEpoch(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, errors.New("want seconds since 1970, such as $(git log -1 --pretty=%ct)")
	}
	t := time.Unix(seconds, 0).UTC()
	return &t, nil
}

// check tells what is missing or makes no sense.
func (out *output) check() error {
	switch out.kind {
	case "docker":
		if out.dest == "" && !out.dir {
			// For docker that is its own store, and this is ours.
			out.kind = "image"
		}
	case "oci", "tar":
		if out.dest == "" {
			out.dest = "-"
		}
	case "local":
		if out.dest == "" || out.dest == "-" {
			return errors.New("type=local needs dest=PATH")
		}
	}
	if out.dir && (out.dest == "" || out.dest == "-") {
		return errors.New("a directory cannot go to standard output; give dest=PATH")
	}
	if !out.isImage() {
		return nil
	}
	if out.byDigest && !out.push {
		return errors.New("push-by-digest=true needs push=true")
	}
	if out.pack.DockerTypes && out.pack.Compression == exporter.Zstd {
		return errors.New("compression=zstd is OCI's alone: leave oci-mediatypes=false out")
	}
	return out.pack.Compression.Check(out.pack.Level)
}
