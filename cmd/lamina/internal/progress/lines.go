package progress

import (
	"bytes"
	"fmt"
	"time"
)

// lines cuts a stream that arrives in pieces into its lines.
type lines struct {
	part []byte    // an unfinished line
	at   time.Time // when its first byte came
}

// write adds data that came at t and calls emit for each line that is whole now,
// with the time of its first byte and without its newline. What emit gets is
// valid until it returns.
func (l *lines) write(t time.Time, data []byte, emit func(at time.Time, line []byte)) {
	for len(data) > 0 {
		if len(l.part) == 0 {
			l.at = t
		}
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		l.part = append(l.part, line...)
		if whole {
			emit(l.at, l.part)
			l.part = l.part[:0]
		}
		data = rest
	}
}

// flush emits the unfinished line, if there is one.
func (l *lines) flush(emit func(at time.Time, line []byte)) {
	if len(l.part) > 0 {
		emit(l.at, l.part)
		l.part = l.part[:0]
	}
}

// stamp is the time that stands before a line of output: seconds since the
// step's start, to five characters as long as that is possible.
func stamp(d time.Duration) string {
	precision := 1
	switch s := d.Seconds(); {
	case s < 10:
		precision = 3
	case s < 100:
		precision = 2
	}
	return fmt.Sprintf("%.*f", precision, d.Seconds())
}

// recent keeps the last lines, none if its limit is 0.
type recent struct {
	lines []string
	limit int
}

func (r *recent) add(line string) {
	if r.limit == 0 {
		return
	}
	if len(r.lines) == r.limit {
		copy(r.lines, r.lines[1:])
		r.lines = r.lines[:r.limit-1]
	}
	r.lines = append(r.lines, line)
}

// extend adds text to the last line, unless that is very long already.
func (r *recent) extend(text string) {
	if n := len(r.lines); n > 0 && len(r.lines[n-1]) < maxWaiting {
		r.lines[n-1] += text
	}
}
