// Package progress shows people, or programs, how a build goes on.
//
// The build tells a [Display] flat events; how they look is the display's
// business: live lines on a terminal, plain prefixed lines in a log, JSON for a
// program. Every form is that of the reference, docker buildx, because people
// and their scripts know it.
package progress

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Event is one thing that happened in a step.
type Event struct {
	// Time is when it happened; zero means now.
	Time time.Time
	// Step identifies the step and is unique in a build. A Note or a Warning
	// may belong to none.
	Step string
	// Name is the step for people: "[build 3/7] RUN make". It is needed once.
	Name string
	Kind Kind
	// Log is output of the step, cut anywhere (Log), or a line of text (Note, Warning).
	Log []byte
	// Item names what bytes are moved, a blob's digest say (Bytes).
	Item string
	// Current of Total bytes are done; Total is 0 if it is not known (Bytes).
	Current, Total int64
	// Err is why the step failed (Failed).
	Err error
}

// Kind is what happened.
type Kind uint8

// The kinds of events. A step ends with one of Cached, Done, Failed and
// Canceled, and need not have started before.
const (
	Start Kind = iota
	Cached
	Done
	Failed
	Canceled
	Log
	Bytes
	Note
	Warning
)

// ends tells whether an event of this kind is a step's last.
func (k Kind) ends() bool { return k == Cached || k == Done || k == Failed || k == Canceled }

// Mode is the form of a display.
type Mode string

// The modes. Auto is TTY on a terminal and Plain elsewhere. Quiet shows only
// steps that failed, None not even those.
const (
	Auto    Mode = "auto"
	TTY     Mode = "tty"
	Plain   Mode = "plain"
	Quiet   Mode = "quiet"
	RawJSON Mode = "rawjson"
	None    Mode = "none"
)

// Modes lists the modes for help texts.
func Modes() string {
	all := []string{string(Auto), string(None), string(Plain), string(Quiet), string(RawJSON), string(TTY)}
	return strings.Join(all, ", ")
}

// Check tells whether there is a mode of that name; the empty one is [Auto].
func (m Mode) Check() error {
	switch m {
	case "", Auto, TTY, Plain, Quiet, RawJSON, None:
		return nil
	}
	return fmt.Errorf("there is no display %q, want %s", m, Modes())
}

// Display shows events. It is safe for concurrent use.
type Display interface {
	// Event tells that something happened. It keeps nothing of e.Log.
	Event(e Event)
	// Close shows what has not been shown yet: on a terminal the whole build once
	// more, and for each step that failed its last output, if it had any. Calling it again does
	// nothing; neither do events after it.
	Close()
}

// Options are what a display needs to know of its surroundings.
type Options struct {
	// Getenv looks up variables (NO_COLOR, TERM, BUILDKIT_COLORS,
	// BUILDKIT_TTY_LOG_LINES, TTY_DISPLAY_RATE, PROGRESS_NO_TRUNC); nil finds none.
	Getenv func(string) string
	// Size returns the terminal's columns and lines. Nil asks the writer, which
	// then has to be a terminal for mode TTY.
	Size func() (cols, rows int, err error)
	// Action is the word for what goes on, "Building" if empty.
	Action string
	// Log gets warnings about unusable settings; nil discards them.
	Log *slog.Logger
	// Past says that the events are of the past, and all there: nothing is shown only
	// because time goes by. It is heeded by mode Plain.
	Past bool
}

// New returns a display of the given mode that writes to w. The empty mode is
// Auto. It is an error to ask for TTY where w is no terminal.
func New(mode Mode, w io.Writer, opt Options) (Display, error) {
	if opt.Getenv == nil {
		opt.Getenv = func(string) string { return "" }
	}
	if opt.Size == nil {
		opt.Size = sizeOf(w)
	}
	if opt.Action == "" {
		opt.Action = "Building"
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	switch mode {
	case TTY:
		if opt.Size == nil {
			return nil, fmt.Errorf("progress %q needs a terminal", mode)
		}
	case Auto, "":
		mode = Plain
		if opt.Size != nil {
			mode = TTY
		}
	}
	if mode == TTY && opt.Getenv("TERM") == "dumb" {
		mode = Plain // it has no cursor that could be moved
	}
	switch mode {
	case TTY:
		return newTTY(w, opt), nil
	case Plain:
		return newPlain(w, opt), nil
	case RawJSON:
		return newRawJSON(w), nil
	case Quiet:
		return newQuiet(w), nil
	case None:
		return none{}, nil
	}
	return nil, mode.Check()
}

// sizeOf returns a function that asks w's terminal for its size; nil if w is none.
func sizeOf(w io.Writer) func() (int, int, error) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() (int, int, error) { return term.GetSize(int(f.Fd())) }
}

// at is the event's time.
func (e *Event) at() time.Time {
	if e.Time.IsZero() {
		return time.Now()
	}
	return e.Time
}

// none shows nothing.
type none struct{}

func (none) Event(Event) {}
func (none) Close()      {}
