package registry

import (
	"context"
	"io"
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
			c, err := h.newTransport()
			if err != nil {
				t.Fatal(err)
			}
			c.DialContext = leadTo(tc.ports)
			h.http = func() (*http.Transport, error) { return c, nil }
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

// leadTo connects to the address that a port stands for.
func leadTo(ports map[string]string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		target, ok := ports[port]
		if !ok {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return new(net.Dialer).DialContext(ctx, network, target)
	}
}

// The library would speak plain HTTP to private addresses.
func TestSchemeAtPrivateAddress(t *testing.T) {
	srv := registrytest.New(t)
	client, _ := testClient(t, Options{})
	h := client.host("10.1.2.3:5000")
	c, err := h.newTransport()
	if err != nil {
		t.Fatal(err)
	}
	c.DialContext = leadTo(map[string]string{"5000": srv.Host})
	h.http = func() (*http.Transport, error) { return c, nil }
	_, err = client.Resolve(t.Context(), "10.1.2.3:5000/app")
	checkError(t, err, "10.1.2.3:5000", Network,
		"HOST/app:latest: cannot reach HOST: http: server gave HTTP response to HTTPS client",
		"it speaks plain HTTP, which is trusted on this machine's loopback interface only: give it a certificate")
	if got := srv.Requests(""); len(got) != 0 {
		t.Errorf("was asked %q in the clear", got)
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

// Not every server that speaks no TLS says so in HTTP.
func TestSchemeOfOddServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				head := make([]byte, 4)
				if _, err := io.ReadFull(c, head); err != nil {
					return
				}
				if string(head) != "HEAD" && string(head) != "GET " {
					io.WriteString(c, "<!DOCTYPE HTML>what was that?")
					return
				}
				io.WriteString(c, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			}()
		}
	}()
	client, _ := testClient(t, Options{})
	_, err = client.Resolve(t.Context(), l.Addr().String()+"/app")
	if err == nil || !strings.Contains(err.Error(), "is no registry: it has no /v2/") {
		t.Errorf("error is %v", err)
	}
}
