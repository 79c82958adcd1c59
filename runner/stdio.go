package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// stdio connects a process: with three pipes, or with a terminal.
type stdio struct {
	want   IO
	child  []*os.File // ends that the child gets; closed once it has them
	stdin  *os.File   // our ends
	output []stream
	socket *os.File // a terminal's master comes through here
	master *os.File

	ended   chan struct{} // closed when the process has ended
	outputs sync.WaitGroup
	inputs  sync.WaitGroup
	mu      sync.Mutex
	err     error // the first of a writer
}

type stream struct {
	from *os.File
	to   io.Writer
}

// newStdio prepares p's streams. The caller must call close.
func newStdio(want IO, p *libcontainer.Process) (_ *stdio, err error) {
	s := &stdio{want: want, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if want.Terminal {
		return s, s.terminal(p)
	}
	if want.Stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		s.child, s.stdin = append(s.child, r), w
		p.Stdin = r
	}
	if want.Stdout != nil {
		w, err := s.pipe(want.Stdout)
		if err != nil {
			return nil, err
		}
		p.Stdout = w
	}
	switch {
	case want.Stderr == nil:
	case same(want.Stderr, want.Stdout):
		p.Stderr = p.Stdout // one pipe keeps the order
	default:
		w, err := s.pipe(want.Stderr)
		if err != nil {
			return nil, err
		}
		p.Stderr = w
	}
	return s, nil
}

// same tells whether both are one writer; writers that cannot be compared are two.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }() // comparing may panic, if a type is not comparable
	return a == b
}

func (s *stdio) pipe(to io.Writer) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.child = append(s.child, w)
	s.output = append(s.output, stream{r, to})
	return w, nil
}

func (s *stdio) terminal(p *libcontainer.Process) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	s.socket = os.NewFile(uintptr(pair[0]), "console socket")
	p.ConsoleSocket = os.NewFile(uintptr(pair[1]), "console socket of the container")
	s.child = append(s.child, p.ConsoleSocket)
	select {
	case size := <-s.want.Resize: // a nil channel is never ready
		p.ConsoleWidth, p.ConsoleHeight = size.Cols, size.Rows
	default:
	}
	return nil
}

// started begins to copy, now that the child has its ends.
func (s *stdio) started() error {
	for _, f := range s.child {
		f.Close()
	}
	s.child = nil
	if s.socket != nil {
		master, err := receiveFile(s.socket)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		s.master = master
		if s.want.Stdout != nil {
			s.output = append(s.output, stream{master, s.want.Stdout})
		} else {
			s.output = append(s.output, stream{master, io.Discard})
		}
		go s.resize()
	}
	for _, o := range s.output {
		s.outputs.Go(func() { s.copyOut(o) })
	}
	if s.want.Stdin != nil {
		s.inputs.Go(s.copyIn)
	}
	return nil
}

// copyOut copies until no process of the container has the stream open. If the
// writer fails, the rest is read all the same, or the container would hang.
func (s *stdio) copyOut(o stream) {
	_, err := io.Copy(o.to, o.from)
	if errors.Is(err, unix.EIO) && s.master != nil { // how a terminal says that it was closed
		err = nil
	}
	if err != nil {
		s.mu.Lock()
		s.err = errors.Join(s.err, fmt.Errorf("write the output: %w", err))
		s.mu.Unlock()
		_, _ = io.Copy(io.Discard, o.from)
	}
}

// copyIn copies stdin. A pipe is closed at its end, so that the command sees it.
func (s *stdio) copyIn() {
	if s.master != nil {
		_, _ = io.Copy(s.master, s.want.Stdin) // the terminal may be gone: then nobody reads
		return
	}
	_, _ = io.Copy(s.stdin, s.want.Stdin) // EPIPE if the command does not read
	s.stdin.Close()
}

func (s *stdio) resize() {
	for {
		select {
		case size, ok := <-s.want.Resize:
			if !ok {
				return
			}
			// Its master is closed only after ended is, so the descriptor is ours.
			_ = control(s.master, func(fd int) error {
				return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
			})
		case <-s.ended:
			return
		}
	}
}

// wait waits until all output was delivered, once the process has ended, and
// returns what kept it from being delivered. A read from stdin that is under way
// is interrupted if its reader has deadlines; otherwise it is left behind, and
// what it reads is lost.
func (s *stdio) wait() error {
	s.outputs.Wait()
	close(s.ended)
	if s.stdin != nil {
		s.stdin.Close()
	}
	if d, ok := s.want.Stdin.(interface{ SetReadDeadline(time.Time) error }); ok {
		if d.SetReadDeadline(time.Unix(1, 0)) == nil {
			s.inputs.Wait()
			_ = d.SetReadDeadline(time.Time{})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// close frees everything. It is safe to call more than once.
func (s *stdio) close() {
	for _, f := range append(s.child, s.stdin, s.socket, s.master) {
		if f != nil {
			f.Close()
		}
	}
	for _, o := range s.output {
		o.from.Close()
	}
}

// receiveFile receives one descriptor over a socket.
func receiveFile(socket *os.File) (*os.File, error) {
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	err := control(socket, func(fd int) (err error) {
		n, oobn, _, _, err = unix.Recvmsg(fd, name, oob, unix.MSG_CMSG_CLOEXEC)
		return os.NewSyscallError("recvmsg", err)
	})
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("the container sent no terminal")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that Close interrupts Read
		return nil, os.NewSyscallError("set nonblock", err)
	}
	return os.NewFile(uintptr(fds[0]), string(name[:n])), nil
}

// control calls fn with f's descriptor, which stays open meanwhile. A closed f is
// os.ErrClosed.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if raw.Control(func(fd uintptr) { result = fn(int(fd)) }) != nil {
		return os.ErrClosed // the only reason there is
	}
	return result
}
