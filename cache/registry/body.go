package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// watch gives a request up when nothing moves for a while. Its clock only runs
// while somebody waits for the network.
type watch struct {
	policy policy
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func newWatch(ctx context.Context, p policy) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{policy: p, cancel: cancel, timer: time.AfterFunc(p.stall, func() { cancel(errStalled) })}
}

func (w *watch) allow(d time.Duration) { w.timer.Reset(d) }
func (w *watch) pause()                { w.timer.Stop() }

// end releases what the watch holds; the request is over.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// watchedUpload is the body of a request.
type watchedUpload struct {
	body io.ReadCloser
	size int64
	left int64
	w    *watch
}

func (b *watchedUpload) Read(p []byte) (int, error) {
	b.w.pause() // whoever provides the body may take its time
	n, err := b.body.Read(p)
	b.left -= int64(n)
	if b.left > 0 {
		b.w.allow(b.w.policy.stall)
	} else {
		b.w.allow(b.w.policy.stall + time.Duration(b.size>>20)*b.w.policy.perMiB)
	}
	return n, err
}

func (b *watchedUpload) Close() error { return b.body.Close() }

// watchedBody is the body of an answer.
type watchedBody struct {
	body io.ReadCloser
	host *host
	size int64 // negative if unknown
	n    int64 // bytes read
	ctx  context.Context
	w    *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.w.allow(b.w.policy.stall)
	n, err := b.body.Read(p)
	b.w.pause()
	b.n += int64(n)
	if err == nil || err == io.EOF {
		return n, err
	}
	if errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, broken(b.host.registry, "", b.n, b.size, err)
}

func (b *watchedBody) Close() error {
	b.w.end()
	return b.body.Close()
}

// errReplaced ends a pass over a source that another one follows.
var errReplaced = errors.New("the request is over")

// source is the body of a request: size bytes of a reader, sent in one pass or,
// if the reader can go back, in several. The reader belongs to whoever made the
// source; after end nothing reads from it any more, although net/http may go on
// reading the body of a request that is over.
type source struct {
	size     int64
	progress func(done int64) // may be nil

	mu    sync.Mutex
	r     io.Reader
	start int64 // where r began, if it can seek
	pass  int   // that may read; 0 before the first
	n     int64 // bytes read in this pass
	err   error // of r
}

func newSource(r io.Reader, size int64, progress func(int64)) *source {
	s := &source{size: size, r: r, progress: progress}
	if seeker, ok := r.(io.Seeker); ok {
		start, err := seeker.Seek(0, io.SeekCurrent)
		if err != nil {
			s.r = struct{ io.Reader }{r} // a pipe, say: no seeker after all
		}
		s.start = start
	}
	return s
}

// begin begins a new pass, which ends the one before.
func (s *source) begin() (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass++
	if s.n > 0 {
		seeker, ok := s.r.(io.Seeker)
		if !ok {
			return nil, errOnce
		}
		if _, err := seeker.Seek(s.start, io.SeekStart); err != nil {
			s.err = err
			return nil, err
		}
	}
	s.n = 0
	return &sourcePass{s: s, pass: s.pass}, nil
}

// errOnce is why a body cannot be sent again.
var errOnce = errors.New("its content was read and cannot be read again")

// end waits until nobody reads from the source, and lets nobody again.
func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass++
}

// rewindable tells whether another pass can begin.
func (s *source) rewindable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.r.(io.Seeker)
	return ok || s.n == 0
}

// failure is the reader's own, which no other try can help.
func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// read reads for one pass.
func (s *source) read(pass int, buf []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pass != s.pass {
		return 0, errReplaced
	}
	n, err = s.r.Read(buf)
	s.n += int64(n)
	switch {
	case err == io.EOF && s.n < s.size, s.n > s.size:
		err = fmt.Errorf("its content has another size than %d bytes", s.size)
		s.err = err
	case err != nil && err != io.EOF:
		s.err = err
	}
	if n > 0 && s.progress != nil {
		s.progress(s.n)
	}
	return n, err
}

// sourcePass is one pass over a source.
type sourcePass struct {
	s    *source
	pass int
}

func (p *sourcePass) Read(buf []byte) (int, error) { return p.s.read(p.pass, buf) }

// Close is net/http's; the reader is not ours to close.
func (p *sourcePass) Close() error { return nil }
