package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/provenance"
	"lamina/cmd/lamina/internal/sbom"
	"lamina/exporter"
	"lamina/frontend"
)

// attests are the attestations that an image is to have. Without being asked
// lamina makes none: they turn an image into an index, which not everybody reads.
type attests struct {
	provenance bool
	full       bool   // mode=max
	builder    string // builder-id
	sbom       bool
}

// any tells whether there is to be one at all.
func (a attests) any() bool { return a.provenance || a.sbom }

// attest adds to img, which is the image of t, what is to be stated about it, and to
// m what --metadata-file says of that.
func (b *build) attest(ctx context.Context, img *exporter.Output, t frontend.Target, m *made) error {
	if b.attests.provenance {
		a, err := b.provenance(t)
		if err != nil {
			return err
		}
		img.Attestations = append(img.Attestations, a)
		key := "buildx.build.provenance"
		if len(b.plan.Targets) > len(b.wanted()) {
			key += "/" + frontend.FormatPlatform(t.Platform)
		}
		m.more[key] = a.Predicate
	}
	if b.attests.sbom {
		a, err := b.contents(ctx, img, m)
		if err != nil {
			return err
		}
		img.Attestations = append(img.Attestations, a)
	}
	platform := frontend.FormatPlatform(t.Platform)
	for i := range img.Attestations {
		for _, n := range m.names {
			name := provenance.ImageURI(n.Name.FamiliarRepository(), n.Tag, "", platform)
			img.Attestations[i].Subjects = append(img.Attestations[i].Subjects, name)
		}
	}
	return nil
}

// contents states what software is in img.
func (b *build) contents(ctx context.Context, img *exporter.Output, m *made) (exporter.Attestation, error) {
	a := exporter.Attestation{PredicateType: sbom.PredicateType}
	tree, err := b.engine.Tree(ctx, img.Layers)
	if err != nil {
		return a, err
	}
	packages, err := sbom.Find(ctx, tree)
	if err != nil {
		return a, fmt.Errorf("list the software of the image: %w", err)
	}
	name := "image"
	if len(m.names) > 0 {
		name = m.names[0].Familiar()
	}
	when := b.started
	if epoch := cmp.Or(b.timestamp, epochTime(b.plan.Epoch)); epoch != nil { // the image is to be the same twice
		when = *epoch
	}
	a.Predicate, err = sbom.Document(name, packages, "lamina-"+b.Version, when)
	return a, err
}

// parseAttests parses --attest, --provenance and --sbom; the last of a kind counts.
func parseAttests(o resultOptions) (attests, error) {
	var a attests
	for _, s := range o.attests {
		if err := a.set(s); err != nil {
			return a, fmt.Errorf("--attest=%s: %w", s, err)
		}
	}
	for _, short := range []struct{ flag, value string }{{"provenance", o.provenance}, {"sbom", o.sbom}} {
		if short.value == "" {
			continue
		}
		s := "type=" + short.flag + "," + short.value
		if on, err := strconv.ParseBool(short.value); err == nil {
			s = fmt.Sprintf("type=%s,disabled=%v", short.flag, !on)
		}
		if err := a.set(s); err != nil {
			return a, fmt.Errorf("--%s=%s: %w", short.flag, short.value, err)
		}
	}
	return a, nil
}

// set sets what one --attest says.
func (a *attests) set(s string) error {
	fields, err := csvFields(s)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, f := range fields {
		if f.value == "" && f.key != "" && !strings.Contains(s, f.key+"=") {
			f.key, f.value = "type", f.key // "provenance" alone
		}
		values[f.key] = f.value
	}
	kind := values["type"]
	delete(values, "type")
	off := false
	if v, ok := values["disabled"]; ok {
		if off, err = strconv.ParseBool(v); err != nil {
			return fmt.Errorf("disabled=%s: want true or false", v)
		}
		delete(values, "disabled")
	}
	switch kind {
	case "provenance":
		*a = attests{sbom: a.sbom}
		if off {
			return nil
		}
		a.provenance = true
		return a.setProvenance(values)
	case "sbom":
		a.sbom = !off
		for key := range values {
			if key == "generator" {
				return errors.New("lamina lists the software itself, and runs no generator")
			}
			return unknownOption(key, []string{"disabled"})
		}
		return nil
	case "":
		return errors.New("there is no type=")
	}
	return fmt.Errorf("unknown type %q, want provenance or sbom", kind)
}

func (a *attests) setProvenance(values map[string]string) error {
	for key, value := range values {
		switch key {
		case "mode":
			if !cli.OneOf(value, "min", "max") {
				return fmt.Errorf("mode=%s: want min or max", value)
			}
			a.full = value == "max"
		case "builder-id":
			a.builder = value
		case "version":
			if value != "v1" {
				return fmt.Errorf("version=%s: lamina writes v1 of SLSA's provenance", value)
			}
		default:
			return unknownOption(key, []string{"mode", "builder-id", "version", "disabled"})
		}
	}
	return nil
}
