package build

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/engine"
	"lamina/exporter"
)

// cacheFrom is one --cache-from: a place where earlier builds left their cache.
type cacheFrom struct {
	engine.Place
	mounts mountChoice
}

// cacheTo is one --cache-to.
type cacheTo struct {
	engine.Place
	inline bool // into the image, instead of to a place
	max    bool // all steps, not only those of the result's own layers
	pack   exporter.PackOptions
	chosen bool // pack says how to compress; otherwise as for the image
	// ignoreError says that the build is good without it.
	ignoreError bool
	// note is said about what has no effect.
	note   string
	mounts mountChoice
}

// caches are the values of --cache-from and --cache-to.
type caches struct {
	from []cacheFrom
	to   []cacheTo
}

// inline tells whether images are to carry the cache of their own steps.
func (c caches) inline() bool {
	return slices.ContainsFunc(c.to, func(to cacheTo) bool { return to.inline })
}

// parseCaches parses --cache-from and --cache-to. buildArgs may ask for an inline
// cache, as docker has it.
func parseCaches(o cacheOptions, buildArgs map[string]string) (c caches, err error) {
	for _, s := range o.cacheFrom {
		from, err := parseCacheFrom(s)
		if err != nil {
			return c, withPrefix(err, "--cache-from="+s)
		}
		c.from = append(c.from, from...)
	}
	for _, s := range o.cacheTo {
		to, err := parseCacheTo(s)
		if err != nil {
			return c, withPrefix(err, "--cache-to="+s)
		}
		c.to = append(c.to, to...)
	}
	if inline, err := strconv.ParseBool(buildArgs["BUILDKIT_INLINE_CACHE"]); err == nil && inline && !c.inline() {
		c.to = append(c.to, cacheTo{inline: true})
	}
	return c, nil
}

// withPrefix says what err is about, and keeps its hint.
func withPrefix(err error, prefix string) error {
	hint := cli.HintOf(err)
	err = fmt.Errorf("%s: %w", prefix, err)
	if hint == "" {
		return err
	}
	return cli.WithHint(err, "%s", hint)
}

// parseCacheFrom parses "type=KIND,…" or docker's short form, names of images.
func parseCacheFrom(s string) ([]cacheFrom, error) {
	attrs, err := cacheAttributes(s, "ref", "src", "tag", "digest", "ignore-error", "mounts", "mounts-max-size")
	if err != nil {
		return nil, err
	}
	var all []cacheFrom
	for _, a := range attrs {
		if a["type"] == "inline" {
			return nil, cli.WithHint(errors.New("a cache is in an image, so it is found by the image's name"), "write --cache-from IMAGE")
		}
		place, err := a.place("src")
		if err != nil {
			return nil, err
		}
		choice, err := a.parseMounts(true)
		if err != nil {
			return nil, err
		}
		all = append(all, cacheFrom{place, choice})
	}
	return all, nil
}

// parseCacheTo parses the same for --cache-to.
func parseCacheTo(s string) ([]cacheTo, error) {
	attrs, err := cacheAttributes(s, "ref", "dest", "tag", "mode", "compression", "compression-level",
		"force-compression", "oci-mediatypes", "image-manifest", "ignore-error", "mounts", "mounts-max-size", "mounts-min-change")
	if err != nil {
		return nil, err
	}
	var all []cacheTo
	for _, a := range attrs {
		to := cacheTo{inline: a["type"] == "inline"}
		if err := to.set(a); err != nil {
			return nil, err
		}
		if !to.inline {
			if to.Place, err = a.place("dest"); err != nil {
				return nil, err
			}
			if to.Name.Digest != "" {
				return nil, errors.New("a digest cannot be written to: give the cache a tag")
			}
		} else if len(a) > 1 {
			return nil, cli.WithHint(errors.New("type=inline takes no options: it is the cache of the image's own layers, compressed as they are"),
				"use type=registry for more")
		}
		all = append(all, to)
	}
	return all, nil
}

// set sets what says how to write a cache.
func (to *cacheTo) set(a attributes) (err error) {
	switch a["mode"] {
	case "", "min":
	case "max":
		to.max = true
	default:
		return fmt.Errorf("mode=%s: want min or max", a["mode"])
	}
	if level, ok := a["compression-level"]; ok {
		n, err := strconv.Atoi(level)
		if err != nil {
			return fmt.Errorf("compression-level=%s: not a number", level)
		}
		to.pack.Level = &n
	}
	to.pack.Compression = exporter.Compression(a["compression"])
	to.chosen = to.pack.Level != nil || to.pack.Compression != ""
	if err := to.pack.CheckCompression(); err != nil {
		return err
	}
	oci, manifest := true, true
	for key, value := range map[string]*bool{
		"force-compression": &to.pack.Force, "oci-mediatypes": &oci, "image-manifest": &manifest, "ignore-error": &to.ignoreError,
	} {
		if s, ok := a[key]; ok {
			if *value, err = strconv.ParseBool(s); err != nil {
				return fmt.Errorf("%s=%s: want true or false", key, s)
			}
		}
	}
	if to.mounts, err = a.parseMounts(false); err != nil {
		return err
	}
	to.pack.DockerTypes = !oci
	if !manifest {
		to.note = "image-manifest=false has no effect: a cache is written as an image manifest, which every registry takes"
	}
	return nil
}

// attributes are the key=value of one cache; "type" is always there.
type attributes map[string]string

// cacheAttributes parses a value of either flag, of which these keys are known. The
// short form, without any "=", lists names.
func cacheAttributes(s string, known ...string) ([]attributes, error) {
	fields, err := csvFields(s)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(s, "=") {
		var all []attributes
		for _, f := range fields {
			all = append(all, attributes{"type": "registry", "ref": f.key})
		}
		return all, nil
	}
	a := attributes{}
	for _, f := range fields {
		a[strings.ToLower(f.key)] = f.value
	}
	if err := a.checkType(); err != nil {
		return nil, err
	}
	for key := range a {
		if key != "type" && !cli.OneOf(key, known...) {
			return nil, unknownKey(key, append(known, "type"))
		}
	}
	return []attributes{a}, nil
}

// checkType refuses kinds of caches that lamina does not have.
func (a attributes) checkType() error {
	switch kind := a["type"]; kind {
	case "registry", "local", "inline":
		return nil
	case "":
		return cli.WithHint(errors.New("there is no type="), "write type=registry,ref=IMAGE, type=local or type=inline")
	case "gha":
		return cli.WithHint(errors.New("type=gha, the cache service of GitHub Actions, is not supported"),
			"use type=registry,ref=ghcr.io/OWNER/NAME:cache, or type=local with the action that caches directories")
	case "s3", "azblob":
		return cli.WithHint(fmt.Errorf("type=%s is not supported", kind),
			"use type=registry; or type=local, and copy the directory to the storage and back")
	default:
		return fmt.Errorf("unknown type %q, want registry, local or inline", kind)
	}
}

// place is where the cache is; dirKey is what a directory is called.
func (a attributes) place(dirKey string) (p engine.Place, err error) {
	if a["type"] == "local" {
		if a["ref"] != "" {
			return p, fmt.Errorf("ref= is of type=registry; type=local has %s=DIRECTORY", dirKey)
		}
		if a[dirKey] == "" {
			return p, fmt.Errorf("type=local needs %s=DIRECTORY", dirKey)
		}
		p = engine.Place{Dir: a[dirKey], Tag: "latest"}
		if a["tag"] != "" {
			p.Tag = a["tag"]
		}
		if d := a["digest"]; d != "" {
			p.Tag = d
			if err := digest.Digest(d).Validate(); err != nil {
				return p, fmt.Errorf("digest=%s: %w", d, err)
			}
		}
		return p, nil
	}
	for _, key := range []string{dirKey, "tag", "digest"} {
		if a[key] != "" {
			return p, fmt.Errorf("%s= is of type=local; type=registry has ref=IMAGE", key)
		}
	}
	if a["ref"] == "" {
		return p, errors.New("type=registry needs ref=IMAGE")
	}
	p.Name, err = registry.ParseName(a["ref"])
	return p, err
}

// unknownKey refuses a key, and says which one is probably meant.
func unknownKey(key string, known []string) error {
	err := fmt.Errorf("unknown key %q", key)
	if best := cli.Nearest(key, known, min(4, len(key))); best != "" {
		return cli.WithHint(err, "did you mean %s?", best)
	}
	return cli.WithHint(err, "the keys are %s", strings.Join(known, ", "))
}
