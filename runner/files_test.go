package runner

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolvConf(t *testing.T) {
	const resolved = "# stub\nnameserver 127.0.0.53\noptions edns0\n"
	const upstream = "nameserver 10.0.0.1\nsearch lan\n"
	for _, tc := range []struct {
		name, network string
		files         map[string]string
		want          string
	}{
		{"host", "host", map[string]string{resolvConfPath: resolved, resolvedPath: upstream}, resolved},
		{"systemd-resolved", "none", map[string]string{resolvConfPath: resolved, resolvedPath: upstream}, upstream},
		{"systemd-resolved tells nothing", "none", map[string]string{resolvConfPath: resolved}, ""},
		{"loopback", "none", map[string]string{resolvConfPath: "nameserver ::1\nnameserver 127.0.0.1\nnameserver 9.9.9.9\nsearch a b"}, "nameserver 9.9.9.9\nsearch a b"},
		{"link-local zone", "none", map[string]string{resolvConfPath: "nameserver fe80::1%eth0\nnameserver fe80::2\n"}, "nameserver fe80::2\n"},
		{"none", "none", nil, ""},
	} {
		got, err := resolvConf(tc.network, func(name string) ([]byte, error) {
			if text, ok := tc.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
}

func TestNetworkFiles(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, "hostname; cat /etc/hostname /etc/hosts; ls -l /etc/hosts /etc/resolv.conf /etc/hostname | cut -c 1-10", func(s *Spec) {
		s.Hostname, s.Hosts = "box", []string{"10.1.2.3 db db.local"}
	})
	want := "box\nbox\n127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb db.local\n" +
		"-rw-r--r--\n-rw-r--r--\n-rw-r--r--"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := output(t, root, "hostname"); got != defaultHostname {
		t.Errorf("default host name is %q", got)
	}
	write(t, filepath.Join(root, "etc/hostname"), "own\n", 0o644)
	if got := output(t, root, "cat /etc/hostname", func(s *Spec) { s.OwnHostname = true }); got != "own" {
		t.Errorf("the root's own /etc/hostname is %q", got)
	}
}
