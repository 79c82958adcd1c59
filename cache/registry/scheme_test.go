package registry

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"lamina/cache/registry/registrytest"
)

// Registries that may speak plain HTTP do so where HTTPS does not work, and at
// no other registry is it tried.
func TestScheme(t *testing.T) {
	plain, secure := registrytest.New(t), registrytest.NewTLS(t)
	_, d := randomBlob(10)
	for _, tc := range []struct {
		name     string
		insecure bool
		ports    map[string]string // of registry.test, to where they lead
		want     string            // in the error
	}{
		{"allowed, and needed", true, map[string]string{"443": plain.Host, "80": plain.Host}, ""},
		{"allowed, and nothing else there", true, map[string]string{"80": plain.Host}, ""},
		{"allowed, but not needed", true, map[string]string{"443": secure.Host, "80": plain.Host}, ""},
		{"not allowed", false, map[string]string{"443": plain.Host, "80": plain.Host}, "server gave HTTP response to HTTPS client"},
		{"not allowed, and nothing else there", false, map[string]string{"80": plain.Host}, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opt := Options{}
			if tc.insecure {
				opt.Insecure = []string{"registry.test"}
			}
			client, _ := testClient(t, opt)
			h := client.host("registry.test")
			c, err := h.newClient()
			if err != nil {
				t.Fatal(err)
			}
			c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(address)
				target, ok := tc.ports[port]
				if !ok {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
				}
				return new(net.Dialer).DialContext(ctx, network, target)
			}
			h.http = func() (*http.Client, error) { return c, nil }
			_, err = testRepository(t, client, "registry.test/app").Has(t.Context(), d)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if len(secure.Requests("HEAD ")) != 1 {
		t.Error("HTTPS was not used where it works")
	}
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "127.1.2.3": true, "[::1]:5000": true, "[::1]": true,
		"localhost.example": false, "10.0.0.1:5000": false, "registry-1.docker.io": false, "127.0.0.1.nip.io": false,
	} {
		if got := isLoopback(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
