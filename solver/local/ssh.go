package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// SSHAgent answers ssh clients, who sign with keys that they never see.
type SSHAgent interface {
	// Serve answers the requests on conn until it is closed or ctx ends, and closes it.
	Serve(ctx context.Context, conn net.Conn) error
}

// sshSocket listens for clients of the agent that --ssh gives as id, on a socket
// that only root and whoever gets it mounted can reach. It is fs.ErrNotExist if
// there is no such agent. stop ends all of it.
func (w *Worker) sshSocket(ctx context.Context, id string) (path string, stop func() error, err error) {
	if w.SSH == nil {
		return "", nil, fs.ErrNotExist
	}
	agent, err := w.SSH(id)
	if err != nil {
		return "", nil, err
	}
	tmp, err := w.Store.Temp()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp(tmp, "ssh-")
	if err != nil {
		return "", nil, err
	}
	l, err := listen(dir, socketName)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		serveAgent(ctx, l, agent)
	}()
	return filepath.Join(dir, socketName), func() error {
		cancel()
		err := l.Close()
		<-over
		return errors.Join(err, os.RemoveAll(dir))
	}, nil
}

const socketName = "agent"

// listen makes the socket name in dir, however long the path of dir is: the
// kernel takes no more than 107 bytes.
func listen(dir, name string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by a name that means something else by then
	return l, nil
}

// serveAgent answers clients until l is closed. That one client could not be
// served is told to that client, by its closed connection.
func serveAgent(ctx context.Context, l net.Listener, agent SSHAgent) {
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		clients.Go(func() { _ = agent.Serve(ctx, conn) })
	}
}
