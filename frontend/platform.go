package frontend

import (
	"path"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The components of a platform. An operating system may have a version,
// "windows(10.0.17763)".
var (
	platformOS   = pattern(`^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$`)
	platformPart = pattern(`^[A-Za-z0-9_.-]+$`)
)

// operatingSystems and architectures are what a platform of a single word can be.
func operatingSystems() []string {
	return []string{"aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl",
		"netbsd", "openbsd", "plan9", "solaris", "windows", "zos"}
}

func architectures() []string {
	return []string{"386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64", "mips",
		"mipsle", "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc", "riscv", "riscv64", "s390", "s390x", "sparc",
		"sparc64", "wasm"}
}

// ParsePlatform reads "linux/arm64", "linux/arm/v7", "arm64" or "linux" and
// returns it in its canonical form. What is missing is this machine's.
func ParsePlatform(s string) (ocispec.Platform, error) {
	first, rest, _ := strings.Cut(s, "/")
	parts := strings.Split(rest, "/")
	m := platformOS().FindStringSubmatch(first)
	bad := func(part string) bool { return !platformPart().MatchString(part) }
	if m == nil || len(parts) > 2 || strings.Contains(s, "/") && slices.ContainsFunc(parts, bad) {
		return ocispec.Platform{}, wrong("write it as os/architecture[/variant]",
			"%q is not a platform such as linux/amd64 or linux/arm/v7", s)
	}
	p := NormalizePlatform(ocispec.Platform{OS: m[1], OSVersion: m[2], Architecture: parts[0]})
	switch {
	case len(parts) == 2:
		p.Architecture, p.Variant = parts[0], parts[1]
		return NormalizePlatform(p), nil
	case strings.Contains(s, "/"):
		return p, nil
	case slices.Contains(operatingSystems(), p.OS):
		p.Architecture = runtime.GOARCH
		return NormalizePlatform(p), nil
	}
	p = NormalizePlatform(ocispec.Platform{OS: runtime.GOOS, Architecture: s})
	if !slices.Contains(architectures(), p.Architecture) {
		known := slices.Concat(operatingSystems(), architectures())
		return ocispec.Platform{}, wrong(didYouMean(s, known, false), "%q is neither an operating system nor an architecture", s)
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
