package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func TestIsArchive(t *testing.T) {
	archive := func(h *tar.Header) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Name, h.Mode = "Dockerfile", 0o644
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	// What tar wrote before POSIX: no magic, but a checksum.
	old := []byte(archive(&tar.Header{Format: tar.FormatUSTAR}))
	clear(old[257:512])
	copy(old[148:156], "        ")
	sum := 0
	for _, c := range old[:512] {
		sum += int(c)
	}
	copy(old[148:], []byte{'0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0})

	for name, tc := range map[string]struct {
		data string
		want bool
	}{
		"nothing":      {"", false},
		"a Dockerfile": {"FROM debian\nRUN make\n", false},
		"a long one":   {strings.Repeat("# a comment\n", 1000), false},
		"zeros":        {strings.Repeat("\x00", 2048), false},
		"POSIX":        {archive(&tar.Header{Format: tar.FormatUSTAR}), true},
		"PAX":          {archive(&tar.Header{Format: tar.FormatPAX, PAXRecords: map[string]string{"a.b": "c"}}), true},
		"GNU":          {archive(&tar.Header{Format: tar.FormatGNU}), true},
		"old":          {string(old), true},
		"gzip":         {"\x1f\x8b\x08", true},
		"bzip2":        {"BZh9", true},
		"xz":           {"\xfd7zXZ\x00", true},
		"zstd":         {"\x28\xb5\x2f\xfd", true},
	} {
		if got := isArchive(bufio.NewReaderSize(strings.NewReader(tc.data), archiveHead)); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestParseContexts(t *testing.T) {
	dir := t.TempDir()
	contexts, locals, err := parseContexts([]string{
		"src=" + dir, "docker.io/library/alpine:latest=docker-image://debian:12", "context=" + dir, "web=https://example.com/f",
		"repo=https://example.com/r.git?tag=v1&keep-git-dir", "none=docker-image://scratch", "a=" + dir, "a::linux/arm64=https://example.com/g",
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"alpine": "debian:12", "none": "scratch", "src": "", "web": "", "repo": "", "context": "", "a": "", "a::linux/arm64": "",
	} {
		c, ok := contexts[key]
		if !ok || c.Image != want || (want == "") != (c.Op != nil) {
			t.Errorf("%s: %+v", key, c)
		}
	}
	for _, name := range []string{"src", "_context", "a"} {
		if locals[name] != dir {
			t.Errorf("directory %s: %q", name, locals[name])
		}
	}
	for _, bad := range []string{"a", "=x", "a=", "A=" + dir, "a::=" + dir, "a=target:x", "a=docker-image://A", "a=https://e.com/r.git?tag=", "a=" + dir + "/none"} {
		if c, _, err := parseContexts([]string{bad}); err == nil {
			t.Errorf("%s: %+v", bad, c)
		}
	}
}
