package progress

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// screen is a small terminal: enough of one to see what a person would see. It
// wraps at its right edge as xterm does (the cursor waits behind the last column
// for one more character) and scrolls into history.
type screen struct {
	mu          sync.Mutex
	cols, rows  int
	lines       [][]rune // history and screen; 0 is the second cell of a wide character
	top         int      // line of the screen's first row
	row, col    int      // of the cursor; row counts from top
	pendingWrap bool
	hidden      bool // the cursor
	writes      int
}

func newScreen(cols, rows int) *screen {
	s := &screen{cols: cols, rows: rows}
	s.grow()
	return s
}

func (s *screen) grow() {
	for len(s.lines) < s.top+s.rows {
		s.lines = append(s.lines, nil)
	}
}

func (s *screen) size() (int, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cols, s.rows, nil
}

// resize changes the width as a terminal does that breaks lines anew.
func (s *screen) resize(cols int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines [][]rune
	cursor := s.top + s.row
	for i, l := range s.lines {
		if i == cursor {
			s.top, s.row = 0, len(lines)
		}
		for len(l) > cols {
			lines = append(lines, l[:cols])
			l = l[cols:]
		}
		lines = append(lines, l)
	}
	s.lines, s.cols = lines, cols
	s.scroll()
	s.grow()
}

func (s *screen) scroll() {
	if over := s.row - (s.rows - 1); over > 0 {
		s.top += over
		s.row -= over
	}
	s.grow()
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	for rest := p; len(rest) > 0; {
		if n := escape(rest); n > 0 {
			s.control(string(rest[2:n]))
			rest = rest[n:]
			continue
		}
		r, n := utf8.DecodeRune(rest)
		rest = rest[n:]
		s.put(r)
	}
	return len(p), nil
}

func (s *screen) control(seq string) {
	n, _ := strconv.Atoi(strings.TrimRight(seq, "AJKmhl"))
	at := s.top + s.row
	switch {
	case seq == "?25l":
		s.hidden = true
	case seq == "?25h":
		s.hidden = false
	case strings.HasSuffix(seq, "A"):
		s.row, s.pendingWrap = max(0, s.row-n), false
	case seq == "K":
		s.lines[at] = s.lines[at][:min(len(s.lines[at]), s.col)]
	case seq == "J":
		s.lines[at] = s.lines[at][:min(len(s.lines[at]), s.col)]
		for i := at + 1; i < len(s.lines); i++ {
			s.lines[i] = nil
		}
	case strings.HasSuffix(seq, "m"):
	default:
		panic("the screen does not know the sequence " + strconv.Quote(seq))
	}
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.col, s.pendingWrap = 0, false
		return
	case '\n': // the line discipline adds a carriage return (ONLCR)
		s.row, s.col, s.pendingWrap = s.row+1, 0, false
		s.scroll()
		return
	}
	w := runeWidth(r)
	if s.pendingWrap || s.col+w > s.cols {
		s.row, s.col, s.pendingWrap = s.row+1, 0, false
		s.scroll()
	}
	at := s.top + s.row
	for len(s.lines[at]) < s.col+w {
		s.lines[at] = append(s.lines[at], ' ')
	}
	if w > 0 {
		s.lines[at][s.col] = r
	}
	if w == 2 {
		s.lines[at][s.col+1] = 0
	}
	s.col += w
	if s.col >= s.cols {
		s.col, s.pendingWrap = s.cols-1, true
	}
}

// text is everything the terminal shows, history included.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, l := range s.lines {
		t := strings.ReplaceAll(string(l), "\x00", "")
		all = append(all, strings.TrimRight(t, " "))
	}
	return strings.TrimRight(strings.Join(all, "\n"), "\n") + "\n"
}
