package progress

import (
	"fmt"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/human"
)

const (
	// plainTail is how many lines of a failed step are repeated at the end.
	plainTail = 20
	// Bytes are told again after this share of the total, or this time.
	bytesShare    = 0.05
	bytesInterval = 5 * time.Second
)

// plainStep is what the plain display knows of a step, and what of it is still
// to be written.
type plainStep struct {
	index   int // 0 until it is first shown
	name    string
	started time.Time
	ended   bool
	failed  bool

	lines     lines
	continued bool    // the unfinished line's beginning is already among waiting
	waiting   []chunk // to be written
	size      int     // bytes of waiting
	since     time.Time
	last      time.Time // of the last event
	items     map[string]*plainItem
	tail      recent
}

// chunk is a piece of a step's output.
type chunk struct {
	stamp     string // "0.412 ", before output
	text      string
	continues bool // goes on with the line of the chunk before
	partial   bool // its line does not end here
}

type plainItem struct {
	started, told time.Time
	current       int64
	done          bool
}

// take turns an event into what is to be written.
func (s *plainStep) take(e Event) {
	now := e.at()
	if len(s.waiting) == 0 {
		s.since = now
	}
	s.last = now
	if e.Kind.ends() {
		s.lines.flush(s.line)
		s.ended = true
		if e.Kind != Failed {
			s.tail.lines = nil // no longer of interest
		}
	}
	took := fmt.Sprintf("%.1fs", now.Sub(s.started).Seconds())
	switch e.Kind {
	case Start:
		s.started, s.ended = now, false
	case Log:
		s.lines.write(now, e.Log, s.line)
		if len(s.lines.part) > maxWaiting {
			s.partial()
		}
	case Bytes:
		s.bytes(e)
	case Note, Warning:
		s.say(remark(e))
	case Cached:
		s.say("CACHED")
	case Done:
		s.say("DONE " + took)
	case Canceled:
		s.say("CANCELED")
	case Failed:
		s.failed = true
		s.say(strings.TrimSpace(fmt.Sprintf("ERROR: %v", errText(e.Err))))
	}
}

// remark is the text of a note or a warning.
func remark(e Event) string {
	if e.Kind == Warning {
		return "WARN: " + string(e.Log)
	}
	return string(e.Log)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// say adds a line that is not the step's own output.
func (s *plainStep) say(text string) { s.add(chunk{text: text}) }

// line adds a whole line of output that began at t.
func (s *plainStep) line(t time.Time, line []byte) {
	c := chunk{stamp: stamp(t.Sub(s.started)) + " ", text: string(line), continues: s.continued}
	s.continued = false
	s.output(c)
}

// partial adds the unfinished line as far as it is known.
func (s *plainStep) partial() {
	s.output(chunk{
		stamp: stamp(s.lines.at.Sub(s.started)) + " ", text: string(s.lines.part),
		continues: s.continued, partial: true,
	})
	s.lines.part = s.lines.part[:0]
	s.continued = true
}

// output adds output of the step, which is repeated at the end if it fails.
func (s *plainStep) output(c chunk) {
	if c.continues {
		s.tail.extend(c.text)
	} else {
		s.tail.add(c.stamp + c.text)
	}
	s.add(c)
}

func (s *plainStep) add(c chunk) {
	s.waiting = append(s.waiting, c)
	s.size += len(c.text)
}

// bytes adds a line for bytes in transit, unless the last one is recent.
func (s *plainStep) bytes(e Event) {
	now := e.at()
	item := s.items[e.Item]
	if item == nil {
		item = &plainItem{started: now}
		s.items[e.Item] = item
	}
	done := e.Total > 0 && e.Current >= e.Total
	share := 0.0
	if e.Total > 0 {
		share = float64(e.Current-item.current) / float64(e.Total)
	}
	if item.done || (!done && !item.told.IsZero() && share < bytesShare && now.Sub(item.told) < bytesInterval) {
		return
	}
	item.told, item.current, item.done = now, e.Current, done
	text := e.Item + " " + human.Bytes(e.Current)
	if e.Total > 0 {
		text += " / " + human.Bytes(e.Total)
	}
	if took := now.Sub(item.started).Seconds(); took > 0.01 {
		text += fmt.Sprintf(" %.1fs", took)
	}
	if done {
		text += " done"
	}
	s.say(text)
}
