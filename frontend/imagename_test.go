package frontend

import (
	"strings"
	"testing"
)

func TestCheckImageName(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0a", 32)
	for _, ref := range []string{
		"debian", "debian:12", "debian:12" + digest, "debian" + digest, "library/debian", "docker.io/debian",
		"index.docker.io/library/debian", "localhost/a", "localhost:5000/a/b", "Registry/a", "host.example:80/a/b-c__d.e",
		"[::1]:5000/a", "a--b/c", "0", "a:B_.-9", strings.Repeat("a", 247),
	} {
		if err := checkImageName(ref); err != nil {
			t.Errorf("checkImageName(%q): %v", ref, err)
		}
	}
	for _, ref := range []string{
		"", "Debian", "a/B", "a b", "a:", "a:-b", "a//b", "a/", "/a", "a___b", "-a", "a@sha256:12", "a@md5:" + strings.Repeat("0", 32),
		"a:b:c", "http://a/b", "host.example:port/a", strings.Repeat("a", 248), strings.Repeat("0a", 32), "é", "_", "a:" + strings.Repeat("t", 129),
	} {
		if err := checkImageName(ref); err == nil {
			t.Errorf("checkImageName(%q) accepts it", ref)
		}
	}
}
