package sshagent

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyFile makes a file with a private key.
func keyFile(t *testing.T, key any, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(pem.EncodeToMemory(block)))
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func newKeys(t *testing.T) (ed25519.PrivateKey, *rsa.PrivateKey) {
	t.Helper()
	_, e, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return e, r
}

// listen makes a socket whose every connection is given to serve.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return name
}

// client talks to a as a step would.
func client(t *testing.T, a *Agent) agent.ExtendedAgent {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- a.Serve(t.Context(), theirs) }()
	t.Cleanup(func() {
		ours.Close()
		if err := <-served; err != nil {
			t.Errorf("served: %v", err)
		}
	})
	return agent.NewClient(ours)
}

// Keys in files and keys in an agent sign in the same way, and stay as they are.
func TestAgent(t *testing.T) {
	e, r := newKeys(t)
	ring := agent.NewKeyring()
	for _, key := range []any{e, r} {
		if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	inFiles, err := Keys(keyFile(t, e, ""), keyFile(t, r, ""))
	if err != nil {
		t.Fatal(err)
	}
	inAgent, err := Socket(listen(t, func(c net.Conn) { _ = agent.ServeAgent(ring, c) }))
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*Agent{"files": inFiles, "agent": inAgent} {
		t.Run(name, func(t *testing.T) {
			c := client(t, a)
			keys, err := c.List()
			if err != nil || len(keys) != 2 {
				t.Fatalf("%d keys, %v", len(keys), err)
			}
			for _, key := range keys {
				flags := agent.SignatureFlags(0)
				if key.Type() == ssh.KeyAlgoRSA {
					flags = agent.SignatureFlagRsaSha512
				}
				sig, err := c.SignWithFlags(key, []byte("data"), flags)
				if err != nil {
					t.Fatal(err)
				}
				if err := key.Verify([]byte("data"), sig); err != nil {
					t.Error(err)
				}
				if flags != 0 && sig.Format != ssh.KeyAlgoRSASHA512 {
					t.Errorf("signed as %s", sig.Format)
				}
			}
			for what, err := range map[string]error{
				"add": c.Add(agent.AddedKey{PrivateKey: e}), "remove": c.Remove(keys[0]), "remove all": c.RemoveAll(),
				"lock": c.Lock([]byte("x")), "unlock": c.Unlock([]byte("x")),
			} {
				if err == nil {
					t.Errorf("a step may %s", what)
				}
			}
			if keys, err := c.List(); err != nil || len(keys) != 2 {
				t.Errorf("afterwards %d keys, %v", len(keys), err)
			}
		})
	}
}

// A raw socket may speak anything.
func TestRaw(t *testing.T) {
	a, err := Raw(listen(t, func(c net.Conn) {
		text, _ := io.ReadAll(c)
		io.WriteString(c, strings.ToUpper(string(text)))
		c.Close()
	}))
	if err != nil {
		t.Fatal(err)
	}
	name := listen(t, func(c net.Conn) { _ = a.Serve(t.Context(), c) })
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "anything"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "ANYTHING" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBadKeys(t *testing.T) {
	e, _ := newKeys(t)
	public, err := ssh.NewPublicKey(e.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ file, want string }{
		{keyFile(t, e, "pass"), "is protected by a passphrase: ssh-add it to an agent, and pass that"},
		{file(t, string(ssh.MarshalAuthorizedKey(public))), "is a public key: pass the private one"},
		{file(t, "nothing"), "is no private key"},
		{t.TempDir(), "is a directory"},
		{"/nonexistent", "no such file or directory"},
	} {
		if _, err := Keys(tc.file); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
	if _, err := Socket(file(t, "")); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file as a socket: %v", err)
	}
}
