package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseName(t *testing.T) {
	for _, tc := range []struct {
		in, canonical, familiar string
	}{
		{"debian", "docker.io/library/debian:latest", "debian:latest"},
		{"debian:12", "docker.io/library/debian:12", "debian:12"},
		{"library/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"index.docker.io/me/app:v1", "docker.io/me/app:v1", "me/app:v1"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"me/app@" + someDigest, "docker.io/me/app@" + someDigest, "me/app@" + someDigest},
		{"me/app:v1@" + someDigest, "docker.io/me/app:v1@" + someDigest, "me/app:v1@" + someDigest},
		{"localhost/app", "localhost/app:latest", "localhost/app:latest"},
		{"localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"},
		{"localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"},
		{"[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"},
		{"[fd00::1]/app", "[fd00::1]/app:latest", "[fd00::1]/app:latest"},
		{"Host/app", "Host/app:latest", "Host/app:latest"},
		{"ghcr.io/o/r/a.b_c__d---e:V_1.2-x", "ghcr.io/o/r/a.b_c__d---e:V_1.2-x", "ghcr.io/o/r/a.b_c__d---e:V_1.2-x"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			n, err := ParseName(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tc.canonical, tc.familiar}, []string{n.String(), n.Familiar()}); diff != "" {
				t.Error(diff)
			}
			if again, err := ParseName(n.Familiar()); err != nil || again != n {
				t.Errorf("familiar form reads back as %v, %v", again, err)
			}
		})
	}
}

func TestParseNameErrors(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", `image name "": the repository is missing`},
		{"Debian", `image name "Debian": the repository must be in lower case`},
		{"https://ghcr.io/a", `image name "https://ghcr.io/a": leave out https://`},
		{"a:", `image name "a:": bad tag ""`},
		{"a:b c", `image name "a:b c": bad tag "b c"`},
		{"a:" + strings.Repeat("x", 129), `image name "a:` + strings.Repeat("x", 129) + `": bad tag "` + strings.Repeat("x", 129) + `"`},
		{"a@sha256:12", `image name "a@sha256:12": "sha256:12" is no digest: invalid checksum digest length`},
		{"a//b", `image name "a//b": bad repository component ""`},
		{"a/../b", `image name "a/../b": bad repository component ".."`},
		{"a/-b", `image name "a/-b": bad repository component "-b"`},
		{"a/b-", `image name "a/b-": bad repository component "b-"`},
		{"a/b._c", `image name "a/b._c": bad repository component "b._c"`},
		{"a/b___c", `image name "a/b___c": bad repository component "b___c"`},
		{"a/é", `image name "a/é": bad repository component "é"`},
		{"host:x/a", `image name "host:x/a": registry "host:x": bad port "x"`},
		{"[::1/a", `image name "[::1/a": registry "[::1": bad IPv6 address`},
		{"[::g]/a", `image name "[::g]/a": registry "[::g]": bad IPv6 address`},
		{"-a.b/c", `image name "-a.b/c": registry "-a.b" is no host name`},
		{strings.Repeat("0a", 32), `image name "` + strings.Repeat("0a", 32) + `": 64 hexadecimal digits are an image's ID, not a name`},
		{"x.y/" + strings.Repeat("a/", 128), `image name "x.y/` + strings.Repeat("a/", 128) + `": the repository has more than 255 characters`},
	} {
		t.Run(tc.in, func(t *testing.T) {
			n, err := ParseName(tc.in)
			if err == nil {
				t.Fatalf("got %v, want an error", n)
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"debian", "localhost:5000/a:b", "[::1]:5/a@" + someDigest, "a/b__c.d-e:f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			return
		}
		for _, form := range []string{n.String(), n.Familiar()} {
			if again, err := ParseName(form); err != nil || again != n {
				t.Errorf("%q: %q reads back as %v, %v, want %v", s, form, again, err, n)
			}
		}
	})
}
