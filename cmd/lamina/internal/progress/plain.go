package progress

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// plainTick is how often the plain display looks for what waits too long.
	plainTick = time.Second
	// patience is how long a step's output may wait for its turn while another
	// step is writing; changing often makes a log hard to read.
	patience = 3 * time.Second
	// maxWaiting is how many bytes may wait, and how long a line may get, before
	// they are written in any case.
	maxWaiting = 64 << 10
	// stale is how long the unfinished line of a silent step stays unwritten: it
	// may be a question, or dots.
	stale = time.Second
	// shortName is the length of names with PROGRESS_NO_TRUNC=0.
	shortName = 72
)

// plain writes lines, each with its step's number:
//
//	#7 [build 3/7] RUN make
//	#7 0.412 output line
//	#7 DONE 2.1s
//
// One step at a time is current. What others have to say waits for the current
// one to end or to fall silent, but not long. Output is passed on byte by byte,
// in whole lines.
type plain struct {
	w         io.Writer
	nameLimit int // 0: none
	stop      chan struct{}
	stopped   sync.WaitGroup

	mu      sync.Mutex
	buf     bytes.Buffer // of one call
	steps   map[string]*plainStep
	order   []*plainStep
	indices int
	current *plainStep
	open    *plainStep // the step whose unfinished line the output ends with
	wrote   bool
	closed  bool
}

func newPlain(w io.Writer, opt Options) *plain {
	p := &plain{
		w:     w,
		steps: map[string]*plainStep{},
		stop:  make(chan struct{}),
	}
	if opt.Getenv("PROGRESS_NO_TRUNC") == "0" {
		p.nameLimit = shortName
	}
	if !opt.Past {
		p.stopped.Go(p.keepTicking)
	}
	return p
}

func (p *plain) keepTicking() {
	ticker := time.NewTicker(plainTick)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.tick(now)
		case <-p.stop:
			return
		}
	}
}

func (p *plain) Event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if e.Step == "" {
		p.endLine()
		fmt.Fprintln(&p.buf, remark(e))
		p.flush()
		return
	}
	s := p.step(e)
	s.take(e)
	if s.ended || p.current == nil || p.current == s || s.size > maxWaiting {
		p.show(s)
	}
	if s.ended {
		p.current = nil
		p.next(e.at())
	}
	p.flush()
}

// step finds or makes the step of e.
func (p *plain) step(e Event) *plainStep {
	s := p.steps[e.Step]
	if s == nil {
		s = &plainStep{started: e.at(), since: e.at(), items: map[string]*plainItem{}, tail: recent{limit: plainTail}}
		p.steps[e.Step] = s
		p.order = append(p.order, s)
	}
	if e.Name != "" {
		s.name = strings.ReplaceAll(e.Name, "\n", " ")
		if p.nameLimit > 0 && len(s.name) > p.nameLimit {
			s.name = s.name[:p.nameLimit] + "..."
		}
	}
	return s
}

// tick gives their turn to steps that have waited too long.
func (p *plain) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for _, s := range p.order {
		if len(s.lines.part) > 0 && now.Sub(s.last) >= stale {
			s.partial()
		}
	}
	if c := p.current; c != nil && len(c.waiting) > 0 {
		p.show(c)
	}
	p.next(now)
	p.flush()
}

// next makes another step current if the present one has had its turn.
func (p *plain) next(now time.Time) {
	var best *plainStep
	for _, s := range p.order {
		if s.ended || s == p.current || (s.index > 0 && len(s.waiting) == 0) {
			continue
		}
		if best == nil || s.since.Before(best.since) {
			best = s
		}
	}
	if best != nil && (p.current == nil || now.Sub(best.since) >= patience) {
		p.show(best)
	}
}

// show makes s the current step and writes what waits.
func (p *plain) show(s *plainStep) {
	if s != p.current {
		p.endLine()
		if c := p.current; c != nil {
			fmt.Fprintf(&p.buf, "#%d ...\n", c.index)
		}
		if p.wrote {
			p.buf.WriteByte('\n')
		}
		if s.index == 0 {
			p.indices++
			s.index = p.indices
		}
		fmt.Fprintf(&p.buf, "#%d %s\n", s.index, s.name)
		p.current, p.wrote = s, true
	}
	for _, c := range s.waiting {
		if !c.continues || p.open != s {
			p.endLine()
			fmt.Fprintf(&p.buf, "#%d %s", s.index, c.stamp)
		}
		p.buf.WriteString(c.text)
		p.open = s
		if !c.partial {
			p.endLine()
		}
	}
	s.waiting, s.size = nil, 0
}

// endLine ends an unfinished line.
func (p *plain) endLine() {
	if p.open != nil {
		p.buf.WriteByte('\n')
		p.open = nil
	}
}

// flush writes what one call has to say in one piece.
func (p *plain) flush() {
	if p.buf.Len() > 0 {
		p.w.Write(p.buf.Bytes())
		p.buf.Reset()
	}
}

func (p *plain) Close() {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return
	}
	close(p.stop)
	p.stopped.Wait()
	for _, s := range p.order {
		if len(s.lines.part) > 0 {
			s.lines.flush(s.line)
		}
		if len(s.waiting) > 0 {
			p.show(s)
		}
	}
	p.endLine()
	for _, s := range p.order {
		if s.failed && len(s.tail.lines) > 0 {
			writeFailure(&p.buf, s.name, strings.NewReader(joinLines(s.tail.lines)))
		}
	}
	p.flush()
}

// joinLines ends each line with a newline.
func joinLines(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return b.String()
}
