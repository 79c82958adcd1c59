package exporter

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platform parses "os/arch[/variant][+feature…]" as tests write it.
func platform(s string) ocispec.Platform {
	features := strings.Split(s, "+")
	parts := append(strings.Split(features[0], "/"), "")
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	if len(features) > 1 {
		p.OSFeatures = features[1:]
	}
	return p
}

func TestChoosePlatform(t *testing.T) {
	for _, tc := range []struct{ want, have, choice string }{
		{"linux/amd64", "linux/arm64 linux/amd64", "linux/amd64"},
		{"linux/amd64", "windows/amd64 linux/arm64", ""},
		{"linux/amd64", "linux/amd64/v2", ""}, // may use what the machine lacks
		{"linux/amd64/v1", "linux/amd64", "linux/amd64"},
		{"linux/amd64", "linux/amd64/v1", "linux/amd64/v1"},
		{"linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v4", "linux/amd64/v2"},
		{"linux/amd64/v3", "linux/386 linux/amd64", "linux/amd64"},
		{"linux/amd64", "linux/386", "linux/386"},
		{"linux/386", "linux/amd64", ""},
		{"linux/x86_64", "linux/amd64", "linux/amd64"},
		{"linux/amd64", "Linux/X86_64", "Linux/X86_64"},
		{"linux/arm64", "linux/arm64/v8", "linux/arm64/v8"},
		{"linux/arm64/v8", "linux/arm64", "linux/arm64"},
		{"linux/aarch64", "linux/arm64/8", "linux/arm64/8"},
		{"linux/arm64", "linux/arm/v7 linux/arm/v6", "linux/arm/v7"},
		{"linux/arm64", "linux/arm/v6 linux/arm/v8", "linux/arm/v8"},
		{"linux/arm64", "linux/arm64/v8.1", ""},
		{"linux/arm64/v8.2", "linux/arm64 linux/arm64/v8.1 linux/arm64/v8.3", "linux/arm64/v8.1"},
		{"linux/arm64/v9", "linux/arm64/v8.4 linux/arm64/v8.5 linux/arm64/v8.6", "linux/arm64/v8.5"},
		{"linux/arm64/v9.0", "linux/arm64/v9", "linux/arm64/v9"},
		{"linux/arm64/v9.2", "linux/arm64/v8 linux/arm64/v9", "linux/arm64/v9"},
		{"linux/arm64/v10", "linux/arm64", ""},
		{"linux/arm/v7", "linux/arm/v5 linux/arm/v6", "linux/arm/v6"},
		{"linux/arm/v7", "linux/arm/v8", ""},
		{"linux/arm", "linux/arm/v7 linux/arm/v6", "linux/arm/v7"},
		{"linux/arm/v6", "linux/arm/v7 linux/arm/v5", "linux/arm/v5"},
		{"linux/armhf", "linux/arm/v6 linux/arm/v7", "linux/arm/v7"},
		{"linux/armel", "linux/arm/v7 linux/arm/v6", "linux/arm/v6"},
		{"linux/riscv64", "linux/riscv64", "linux/riscv64"},
		{"linux/s390x", "", ""},
		{"linux/amd64", "linux/amd64+gpu", ""},
		{"linux/amd64+gpu", "linux/amd64 linux/amd64+gpu", "linux/amd64+gpu"},
		{"linux/amd64", "linux/amd64 linux/amd64/v1", "linux/amd64"}, // the first of equals
		{"macos/arm64", "darwin/arm64", "darwin/arm64"},
	} {
		var manifests []ocispec.Descriptor
		for _, s := range strings.Fields(tc.have) {
			p := platform(s)
			manifests = append(manifests, ocispec.Descriptor{Platform: &p, Annotations: map[string]string{"name": s}})
		}
		got, _ := choosePlatform(manifests, platform(tc.want))
		if got.Annotations["name"] != tc.choice {
			t.Errorf("%s of [%s]: chose %q, want %q", tc.want, tc.have, got.Annotations["name"], tc.choice)
		}
	}
}
