// Package sshagent is what --ssh gives to a build: ssh agents that sign for it,
// with keys that the build never sees.
package sshagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxKey is more than any private key, in bytes.
const maxKey = 100 << 10

// Agent answers the requests of ssh clients. It lists keys and signs, and lets
// nobody add, remove or lock keys. It is safe for concurrent use.
type Agent struct {
	socket string      // of an agent to ask, or
	keys   agent.Agent // one that we are
	raw    bool        // the socket may be no agent's at all: pass on every byte
}

// Socket is the agent that listens at path. It is asked for each connection anew.
func Socket(path string) (*Agent, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is no socket", path)
	}
	return &Agent{socket: path}, nil
}

// Raw passes on every byte to the socket at path, whatever speaks there.
func Raw(path string) (*Agent, error) {
	a, err := Socket(path)
	if err == nil {
		a.raw = true
	}
	return a, err
}

// Keys is an agent inside this process that has the private keys of these files.
func Keys(files ...string) (*Agent, error) {
	ring := agent.NewKeyring()
	for _, name := range files {
		key, err := readKey(name)
		if err != nil {
			return nil, err
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: name}); err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
	}
	return &Agent{keys: ring}, nil
}

func readKey(name string) (any, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("key %s is protected by a passphrase: ssh-add it to an agent, and pass that", name)
	case err != nil && bytes.HasPrefix(text, []byte("ssh-")):
		return nil, fmt.Errorf("%s is a public key: pass the private one", name)
	case err != nil:
		return nil, fmt.Errorf("%s is no private key: %w", name, err)
	}
	return key, nil
}

// Serve answers the requests on conn until it is closed or ctx ends, and closes it.
func (a *Agent) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if a.keys != nil {
		return served(agent.ServeAgent(readOnly{a.keys}, conn))
	}
	var d net.Dialer
	behind, err := d.DialContext(ctx, "unix", a.socket)
	if err != nil {
		return fmt.Errorf("ssh agent: %w", err)
	}
	defer behind.Close()
	if !a.raw {
		return served(agent.ServeAgent(readOnly{agent.NewClient(behind)}, conn))
	}
	return pass(conn, behind)
}

// served forgets that a connection ended: that is how all of them do.
func served(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// pass copies both ways until both sides have said all.
func pass(a, b net.Conn) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(b, a)
		sent <- errors.Join(err, closeWrite(b))
	}()
	_, err := io.Copy(a, b)
	err = errors.Join(err, closeWrite(a))
	return served(errors.Join(err, <-sent))
}

// closeWrite tells the other side of c that nothing more will come.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// errReadOnly is the answer to whoever wants to change an agent.
var errReadOnly = errors.New("a build may use the keys of an ssh agent, not change them")

// readOnly is an agent that cannot be changed.
type readOnly struct{ agent.Agent }

func (readOnly) Add(agent.AddedKey) error   { return errReadOnly }
func (readOnly) Remove(ssh.PublicKey) error { return errReadOnly }
func (readOnly) RemoveAll() error           { return errReadOnly }
func (readOnly) Lock([]byte) error          { return errReadOnly }
func (readOnly) Unlock([]byte) error        { return errReadOnly }

// SignWithFlags signs with the hash that the client asks for.
func (r readOnly) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if e, ok := r.Agent.(agent.ExtendedAgent); ok {
		return e.SignWithFlags(key, data, flags)
	}
	return r.Sign(key, data)
}

func (readOnly) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }
