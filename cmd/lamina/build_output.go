package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"lamina/cache/registry"
	"lamina/exporter"
)

// output is one --output: what becomes of the result.
type output struct {
	kind string // image, oci, docker, tar, local or cacheonly
	dest string // a path; "-" is standard output
	push bool
	name string // of the image, beside --tag; empty if there is none
	dir  bool   // oci and docker: a directory instead of an archive
	pack exporter.PackOptions

	names []registry.Name // all that the image gets
}

// parseOutputs parses --output and --push. Without either the result is an image
// in the store.
func parseOutputs(o buildOptions, stdoutIsTerminal bool) ([]output, error) {
	var all []output
	stdout := 0
	for _, s := range o.outputs {
		out, err := parseOutput(s)
		if err != nil {
			return nil, fmt.Errorf("--output=%s: %w", s, err)
		}
		if out.dest == "-" {
			stdout++
			if stdoutIsTerminal {
				return nil, fmt.Errorf("--output=%s: refusing to write an archive to a terminal; redirect it", s)
			}
		}
		all = append(all, out)
	}
	if stdout > 1 {
		return nil, errors.New("only one --output can go to standard output")
	}
	if stdout > 0 && o.quiet {
		return nil, errors.New("--quiet and an --output to standard output exclude each other")
	}
	if len(all) == 0 {
		all = []output{{kind: "image"}}
	}
	if o.push {
		pushed := false
		for i := range all {
			if all[i].kind == "image" {
				all[i].push, pushed = true, true
			}
		}
		if !pushed {
			all = append(all, output{kind: "image", push: true})
		}
	}
	for i := range all {
		out := &all[i]
		var err error
		if out.names, err = imageNames(o.tags, out.name); err != nil {
			return nil, err
		}
		if out.push && len(out.names) == 0 {
			return nil, withHint(errors.New("there is no name to push to"), "name the image with --tag")
		}
	}
	return all, nil
}

// imageNames parses the names that an image is to have.
func imageNames(tags []string, another string) ([]registry.Name, error) {
	if another != "" {
		tags = append(slices.Clone(tags), another)
	}
	var names []registry.Name
	for _, s := range tags {
		n, err := registry.ParseName(s)
		if err != nil {
			return nil, err
		}
		if n.Digest != "" {
			return nil, fmt.Errorf("%s: a name with a digest cannot be given to an image", s)
		}
		names = append(names, n)
	}
	return names, nil
}

// parseOutput parses one "type=KIND,dest=PATH,…", or a path alone, which is
// docker's short form of type=local; "-" is short for type=tar.
func parseOutput(s string) (output, error) {
	fields, err := csvFields(s)
	if err != nil {
		return output{}, err
	}
	if len(fields) == 1 && fields[0].value == "" && s != "" {
		if s == "-" {
			return output{kind: "tar", dest: "-"}, nil
		}
		return output{kind: "local", dest: s}, nil
	}
	var out output
	for _, f := range fields {
		if err := out.set(f.key, f.value); err != nil {
			return output{}, err
		}
	}
	return out, out.check()
}

// set sets one option.
func (out *output) set(key, value string) (err error) {
	switch key {
	case "type":
		out.kind = value
		if value == "registry" {
			out.kind, out.push = "image", true
		}
	case "dest":
		out.dest = value
	case "name":
		out.name = value
	case "push":
		out.push, err = strconv.ParseBool(value)
	case "tar":
		var tar bool
		tar, err = strconv.ParseBool(value)
		out.dir = !tar
	case "oci-mediatypes":
		var oci bool
		oci, err = strconv.ParseBool(value)
		out.pack.DockerTypes = !oci
	case "compression":
		out.pack.Compression = exporter.Compression(value)
	case "compression-level":
		var level int
		level, err = strconv.Atoi(value)
		out.pack.Level = &level
	case "force-compression":
		out.pack.Force, err = strconv.ParseBool(value)
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: not a valid value", key, value)
	}
	return nil
}

// check tells what is missing or makes no sense.
func (out *output) check() error {
	switch out.kind {
	case "image", "cacheonly":
		if out.dest != "" {
			return fmt.Errorf("type=%s takes no dest", out.kind)
		}
	case "oci", "docker", "tar":
		if out.dest == "" {
			out.dest = "-"
		}
		if out.dir && out.dest == "-" {
			return errors.New("a directory cannot go to standard output; give dest=PATH")
		}
	case "local":
		if out.dest == "" || out.dest == "-" {
			return errors.New("type=local needs dest=PATH")
		}
	case "":
		return errors.New("there is no type=")
	default:
		return fmt.Errorf("unknown type %q, want image, registry, oci, docker, tar, local or cacheonly", out.kind)
	}
	if out.push && out.kind != "image" {
		return fmt.Errorf("type=%s cannot be pushed", out.kind)
	}
	return nil
}
