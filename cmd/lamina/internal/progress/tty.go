package progress

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

const (
	// ttyInterval is the time between two frames.
	ttyInterval = 100 * time.Millisecond
	// ttyTail is how many lines of a running step's output are shown.
	ttyTail = 6
	// maxShown is how many bytes of one line of output may reach the screen.
	maxShown = 4 << 10
	// What a terminal is taken for that does not tell its size.
	defaultCols, defaultRows = 80, 24
)

// tty redraws a picture of the build in place, at most once an interval.
//
// Each frame is one write that hides the cursor, goes up to where the last frame
// began, writes the lines that changed, clears what is below, and shows the
// cursor again: whenever lamina is killed, the terminal is usable.
type tty struct {
	w        io.Writer
	size     func() (int, int, error)
	action   string
	colors   palette
	tailRows int
	ticker   *time.Ticker
	stop     chan struct{}
	stopped  sync.WaitGroup

	mu      sync.Mutex
	started time.Time
	steps   map[string]*liveStep
	order   []*liveStep
	remarks []line // that belong to no step
	screen  []line // what the last frame drew
	cols    int    // and the size it drew it for
	rows    int
	closed  bool
}

func newTTY(w io.Writer, opt Options) *tty {
	d := &tty{
		w:        w,
		size:     opt.Size,
		action:   opt.Action,
		colors:   readPalette(opt.Getenv, opt.Log),
		tailRows: intSetting(opt, "BUILDKIT_TTY_LOG_LINES", ttyTail),
		started:  time.Now(),
		steps:    map[string]*liveStep{},
		stop:     make(chan struct{}),
	}
	interval := ttyInterval
	if ms := intSetting(opt, "TTY_DISPLAY_RATE", 0); ms > 0 {
		interval = time.Duration(ms) * time.Millisecond
	}
	d.ticker = time.NewTicker(interval)
	d.stopped.Go(func() {
		for {
			select {
			case <-d.ticker.C:
				d.draw()
			case <-d.stop:
				return
			}
		}
	})
	return d
}

// intSetting reads a number that is not negative from the environment.
func intSetting(opt Options, name string, standard int) int {
	s := opt.Getenv(name)
	if s == "" {
		return standard
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		opt.Log.Warn(name+": not a number", "value", s)
		return standard
	}
	return n
}

func (d *tty) Event(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if e.Step == "" {
		l := line{text: clean([]byte(remark(e)))}
		if e.Kind == Warning {
			l.color = d.colors.warning
		}
		d.remarks = append(d.remarks, l)
		return
	}
	s := d.steps[e.Step]
	if s == nil {
		s = &liveStep{transcript: transcript{tail: recent{limit: d.tailRows}}}
		d.steps[e.Step] = s
		d.order = append(d.order, s)
	}
	s.take(e)
}

// take changes what is known of the step.
func (s *liveStep) take(e Event) {
	now := e.at()
	s.event(e)
	if e.Kind.ends() {
		s.ended, s.kind = now, e.Kind
		s.tail.lines, s.items, s.note = nil, nil, "" // only running steps show them
		return
	}
	switch e.Kind {
	case Log:
		s.spoke = now
	case Bytes:
		s.item(e.Item, now).set(e)
	case Note:
		s.note = clean(e.Log)
	case Warning:
		s.warnings = append(s.warnings, clean(e.Log))
	}
}

func (s *liveStep) item(name string, now time.Time) *liveItem {
	for _, it := range s.items {
		if it.name == name {
			return it
		}
	}
	it := &liveItem{name: name, started: now}
	s.items = append(s.items, it)
	return it
}

func (it *liveItem) set(e Event) { it.current, it.total = e.Current, e.Total }

// lastBytes is the end of a line, as much of it as can ever be on the screen.
func lastBytes(b []byte) string { return string(b[max(0, len(b)-maxShown):]) }

func (d *tty) draw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.order) == 0 {
		return
	}
	f := d.frame()
	d.paint(f.live(), f)
}

func (d *tty) frame() *frame {
	cols, rows, err := d.size()
	if err != nil || cols <= 0 || rows <= 0 {
		cols, rows = defaultCols, defaultRows
	}
	return &frame{
		steps: d.order, remarks: d.remarks, started: d.started, action: d.action, now: time.Now(),
		cols: cols, rows: rows, tail: d.tailRows, colors: d.colors,
	}
}

// paint replaces what is on the screen by lines.
func (d *tty) paint(lines []line, f *frame) {
	var b bytes.Buffer
	b.WriteString("\x1b[?25l\r")
	if n := d.height(f.cols); n > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", n)
	}
	// When its size changes, a terminal moves things about.
	same := f.cols == d.cols && f.rows == d.rows
	if !same {
		b.WriteString("\x1b[J")
	}
	for i, l := range lines {
		if !same || i >= len(d.screen) || d.screen[i] != l {
			l.write(&b, f.cols)
		}
		b.WriteString("\r\n")
	}
	b.WriteString("\x1b[J\x1b[?25h")
	d.screen, d.cols, d.rows = lines, f.cols, f.rows
	d.w.Write(b.Bytes())
}

// write draws the line over whatever stands in its place.
func (l line) write(b *bytes.Buffer, cols int) {
	if l.color != "" {
		b.WriteString(l.color + l.text + resetColor)
	} else {
		b.WriteString(l.text)
	}
	// Behind the last column the cursor still stands on it, and would erase it.
	if width(l.text) < cols {
		b.WriteString("\x1b[K")
	}
}

// height is how many rows the last frame takes on a terminal that is cols wide
// now: what was wider has been broken into several rows.
func (d *tty) height(cols int) int {
	n := 0
	for _, l := range d.screen {
		n += max(1, (width(l.text)+cols-1)/cols)
	}
	return n
}

func (d *tty) Close() {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return
	}
	d.ticker.Stop()
	close(d.stop)
	d.stopped.Wait()
	if len(d.order) > 0 {
		f := d.frame()
		d.paint(f.final(), f)
	}
	for _, s := range d.order {
		if s.kind == Failed && !s.kept.empty() {
			d.failure(s)
		}
		s.kept.Close()
	}
}

// failure writes all output of a failed step, as the terminal would have shown
// it, but without letting it move the cursor.
func (d *tty) failure(s *liveStep) {
	w := bufio.NewWriter(d.w)
	writeFailure(w, oneLine(s.name), cleaned{&s.kept})
	w.Flush()
}

// cleaned passes each line of a text through clean.
type cleaned struct{ text io.WriterTo }

func (c cleaned) WriteTo(w io.Writer) (int64, error) {
	cw := cleanWriter{w: w}
	return c.text.WriteTo(&cw)
}

type cleanWriter struct {
	w     io.Writer
	lines lines
}

func (c *cleanWriter) Write(p []byte) (int, error) {
	var err error
	c.lines.write(time.Time{}, p, func(_ time.Time, line []byte) {
		if err == nil {
			_, err = fmt.Fprintln(c.w, clean(line))
		}
	})
	return len(p), err
}
