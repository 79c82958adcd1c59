package exporter

import (
	"runtime"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archNames gives the usual name of an architecture, and the variant that the
// name implies, for the other names that images carry.
var archNames = map[string]struct{ arch, variant string }{
	"i386":    {arch: "386"},
	"x86_64":  {arch: "amd64"},
	"x86-64":  {arch: "amd64"},
	"aarch64": {arch: "arm64"},
	"armhf":   {arch: "arm", variant: "v7"},
	"armel":   {arch: "arm", variant: "v6"},
}

// normalize returns p in the one spelling that can be compared: usual names,
// no variant where it is the architecture's first, this machine's values where
// there are none.
func normalize(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.OS {
	case "":
		p.OS = runtime.GOOS
	case "macos":
		p.OS = "darwin"
	}
	if p.Architecture == "" {
		p.Architecture = runtime.GOARCH
	}
	if name, ok := archNames[p.Architecture]; ok {
		p.Architecture = name.arch
		if name.variant != "" {
			p.Variant = name.variant
		}
	}
	if p.Variant != "" && p.Variant[0] != 'v' {
		p.Variant = "v" + p.Variant
	}
	p.Variant = strings.TrimSuffix(p.Variant, ".0")
	switch p.Architecture + "/" + p.Variant {
	case "amd64/v1", "arm64/v8":
		p.Variant = ""
	case "arm/":
		p.Variant = "v7"
	}
	if p.Architecture == "386" {
		p.Variant = ""
	}
	return p
}

// machine is an architecture with its variant, normalised.
type machine struct{ arch, variant string }

// runs lists the machines whose programs run on p, the best first: the same
// table as the reference's, so that the same image is chosen.
func runs(p ocispec.Platform) []machine {
	own := machine{p.Architecture, p.Variant}
	switch p.Architecture {
	case "amd64":
		return append(older(own, 1), machine{"386", ""})
	case "arm":
		return older(own, 5)
	case "arm64":
		return append(arm64(p.Variant), older(machine{"arm", "v8"}, 5)...)
	}
	return []machine{own}
}

// older lists m and its predecessors down to variant first.
func older(m machine, first int) []machine {
	all := []machine{m}
	v, err := strconv.Atoi(strings.TrimPrefix(m.variant, "v"))
	if err != nil {
		return all
	}
	for v--; v >= first; v-- {
		p := normalize(ocispec.Platform{Architecture: m.arch, Variant: "v" + strconv.Itoa(v)})
		all = append(all, machine{p.Architecture, p.Variant})
	}
	return all
}

// arm64 lists the 64-bit variants that run on variant. Armv9.n has all that
// Armv8.(n+5) has, of which there are nine.
func arm64(variant string) []machine {
	if variant == "" {
		variant = "v8"
	}
	major, minor, _ := strings.Cut(strings.TrimPrefix(variant, "v"), ".")
	n, err := strconv.Atoi(minor)
	if minor != "" && err != nil || major != "8" && major != "9" {
		return []machine{{"arm64", variant}}
	}
	var all []machine
	down := func(major string, n int) {
		for ; n > 0; n-- {
			all = append(all, machine{"arm64", "v" + major + "." + strconv.Itoa(n)})
		}
		p := normalize(ocispec.Platform{Architecture: "arm64", Variant: "v" + major})
		all = append(all, machine{"arm64", p.Variant})
	}
	down(major, n)
	if major == "9" {
		down("8", min(n+5, 9))
	}
	return all
}

// platformRank tells how well an image for have serves someone who wants want:
// 0 is best, -1 not at all. Of two that rank equally, one that uses more of the
// wanted OS features is the better; see [choosePlatform].
func platformRank(want, have ocispec.Platform) int {
	want, have = normalize(want), normalize(have)
	if want.OS != have.OS {
		return -1
	}
	for _, feature := range have.OSFeatures {
		if !slices.Contains(want.OSFeatures, feature) {
			return -1
		}
	}
	return slices.Index(runs(want), machine{have.Architecture, have.Variant})
}

// choosePlatform returns the manifest that serves want best, the earliest of equals.
func choosePlatform(manifests []ocispec.Descriptor, want ocispec.Platform) (best ocispec.Descriptor, ok bool) {
	bestRank := 0
	for _, m := range manifests {
		rank := platformRank(want, *m.Platform)
		if rank < 0 {
			continue
		}
		better := rank < bestRank || rank == bestRank && ok && len(m.Platform.OSFeatures) > len(best.Platform.OSFeatures)
		if !ok || better {
			best, bestRank, ok = m, rank, true
		}
	}
	return best, ok
}

// platformName is p as the user writes it: os/arch[/variant].
func platformName(p ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}
