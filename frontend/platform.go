package frontend

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformPart is a component of a platform; an operating system may have a
// version, "windows(10.0.17763)".
var platformPart = pattern(`^([A-Za-z0-9_.-]+)(?:\(([A-Za-z0-9_.-]*)\))?$`)

// ParsePlatform reads "linux/arm64", "linux/arm/v7", "arm64" or "linux" and
// returns it in its canonical form. What is missing is this machine's.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	var version string
	for i, part := range parts {
		m := platformPart().FindStringSubmatch(part)
		if m == nil || i > 2 || i > 0 && m[2] != "" {
			return ocispec.Platform{}, fmt.Errorf("%q is not a platform such as linux/amd64 or linux/arm/v7", s)
		}
		if i == 0 {
			parts[0], version = strings.ToLower(m[1]), m[2]
		}
	}
	if len(parts) > 1 {
		p := ocispec.Platform{OS: parts[0], OSVersion: version, Architecture: parts[1]}
		if len(parts) > 2 {
			p.Variant = parts[2]
		}
		return NormalizePlatform(p), nil
	}
	if slices.Contains([]string{"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris"}, parts[0]) {
		return NormalizePlatform(ocispec.Platform{OS: parts[0], OSVersion: version, Architecture: runtime.GOARCH}), nil
	}
	p := NormalizePlatform(ocispec.Platform{OS: runtime.GOOS, Architecture: parts[0]})
	if !slices.Contains([]string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le",
		"ppc64", "ppc64le", "riscv64", "s390x", "wasm"}, p.Architecture) {
		return ocispec.Platform{}, fmt.Errorf("%q is neither an operating system nor an architecture", s)
	}
	return p, nil
}

// NormalizePlatform returns p by its canonical names: x86_64 is amd64, aarch64
// is arm64 without a variant, and arm is arm/v7.
func NormalizePlatform(p ocispec.Platform) ocispec.Platform {
	p.OS = strings.ToLower(p.OS)
	p.Architecture, p.Variant = strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.OS {
	case "":
		p.OS = runtime.GOOS
	case "macos":
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64", "amd64":
		p.Architecture = "amd64"
		if p.Variant == "v1" {
			p.Variant = ""
		}
	case "aarch64", "arm64":
		p.Architecture = "arm64"
		switch p.Variant {
		case "8", "v8", "v8.0":
			p.Variant = ""
		case "9", "9.0", "v9.0":
			p.Variant = "v9"
		}
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "arm":
		switch p.Variant {
		case "":
			p.Variant = "v7"
		case "5", "6", "7", "8":
			p.Variant = "v" + p.Variant
		}
	}
	return p
}

// FormatPlatform returns p as [ParsePlatform] reads it.
func FormatPlatform(p ocispec.Platform) string {
	if p.OS == "" {
		return "unknown"
	}
	os := p.OS
	if p.OSVersion != "" {
		os += "(" + p.OSVersion + ")"
	}
	return path.Join(os, p.Architecture, p.Variant)
}
