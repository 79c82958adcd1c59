package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/human"
)

const (
	stepPrefix = " => "
	itemPrefix = " => => "
	logPrefix  = " => => # "
	// barWidth is the number of cells inside a bar; bars need a terminal of at
	// least barColumns.
	barWidth   = 20
	barColumns = 72
	// maxItems is how many blobs of one step are shown.
	maxItems = 6
)

// liveStep is what a terminal shows of a step.
type liveStep struct {
	transcript
	ended    time.Time // zero while the step runs
	kind     Kind      // Start, or how it ended
	items    []*liveItem
	note     string // the latest
	warnings []string
	spoke    time.Time // when output last came
}

type liveItem struct {
	name           string
	started        time.Time
	current, total int64
}

func (s *liveStep) running() bool { return s.ended.IsZero() }

// line is one line of a frame: text without control sequences, and a colour.
type line struct {
	text  string
	color string
}

// frame is everything that is on the screen at one moment: a pure function of
// the steps, the time and the size of the terminal.
type frame struct {
	steps   []*liveStep
	remarks []line
	started time.Time
	action  string
	now     time.Time
	cols    int
	rows    int
	tail    int // lines of output for each running step
	colors  palette
}

// live is the picture while the build goes on. It is at most rows-1 lines high:
// running steps first, then what they move and say, then as many of the steps
// that ended last as there is room for.
func (f *frame) live() []line {
	room := max(1, f.rows-2) // without the headline and the line of the cursor
	remarks := f.remarks[max(0, len(f.remarks)-room/2):]
	room -= len(remarks)
	detail := map[*liveStep][]line{}
	var running, ended []*liveStep
	for _, s := range f.steps {
		if s.running() {
			running = append(running, s)
		} else {
			ended = append(ended, s)
		}
	}
	running = running[:min(len(running), room)]
	room -= len(running)
	for _, s := range running {
		d := f.transfers(s)
		d = d[:min(len(d), room)]
		detail[s] = d
		room -= len(d)
	}
	for _, s := range bySpoken(running) {
		d := f.output(s)
		if len(d) > room {
			d = d[len(d)-room:]
		}
		detail[s] = append(detail[s], d...)
		room -= len(d)
	}
	slices.SortStableFunc(ended, func(a, b *liveStep) int { return b.ended.Compare(a.ended) })
	shown := slices.Concat(running, ended[:min(len(ended), room)])

	out := []line{f.headline("")}
	for _, s := range f.steps {
		if slices.Contains(shown, s) {
			out = append(out, f.step(s))
			out = append(out, detail[s]...)
		}
	}
	for _, r := range remarks {
		out = append(out, line{clip(r.text, f.cols), r.color})
	}
	return out
}

// final is the picture that stays: all steps, with their warnings.
func (f *frame) final() []line {
	word := "FINISHED"
	for _, s := range f.steps {
		switch {
		case s.kind == Failed:
			word = "ERROR"
		case (s.kind == Canceled || s.running()) && word != "ERROR":
			word = "CANCELED"
		}
	}
	out := []line{f.headline(word)}
	for _, s := range f.steps {
		out = append(out, f.step(s))
		for _, w := range s.warnings {
			out = append(out, line{clip(itemPrefix+"WARN: "+w, f.cols), f.colors.warning})
		}
	}
	// What stays is not clipped: the terminal breaks what is too long.
	return append(out, f.remarks...)
}

func (f *frame) headline(word string) line {
	done := 0
	for _, s := range f.steps {
		if !s.running() {
			done++
		}
	}
	text := fmt.Sprintf("[+] %s %s (%d/%d) %s", f.action, seconds(f.now.Sub(f.started)), done, len(f.steps), word)
	return line{text: clip(strings.TrimSpace(text), f.cols)}
}

// step is a step's own line.
func (f *frame) step(s *liveStep) line {
	end, mark, color := f.now, "", ""
	if !s.running() {
		end, color = s.ended, f.colors.run
	}
	switch s.kind {
	case Cached:
		mark = "CACHED "
	case Failed:
		mark, color = "ERROR ", f.colors.err
	case Canceled:
		mark, color = "CANCELED ", f.colors.cancel
	}
	return line{f.timed(stepPrefix+mark+clean([]byte(oneLine(s.name))), end.Sub(s.started)), color}
}

// timed puts a time at the right end of text.
func (f *frame) timed(text string, d time.Duration) string {
	t := seconds(d)
	left := f.cols - width(t) - 1
	if left < width(stepPrefix)+1 {
		return clip(text, f.cols) // too narrow for both
	}
	return pad(clip(text, left), left) + " " + t
}

// transfers are the lines for what a running step moves and notes.
func (f *frame) transfers(s *liveStep) []line {
	var out []line
	for _, it := range s.items {
		if it.total > 0 && it.current >= it.total {
			continue
		}
		if len(out) == maxItems {
			break
		}
		out = append(out, line{text: f.transfer(it)})
	}
	if s.note != "" {
		out = append(out, line{text: clip(itemPrefix+s.note, f.cols)})
	}
	for _, w := range s.warnings {
		out = append(out, line{clip(itemPrefix+"WARN: "+w, f.cols), f.colors.warning})
	}
	return out
}

// transfer is "sha256:0f2c [=====>    ] 12.30MB / 29.13MB   1.2s", or as much of
// it as the terminal is wide enough for.
func (f *frame) transfer(it *liveItem) string {
	amount := human.Bytes(it.current)
	if it.total > 0 {
		amount += " / " + human.Bytes(it.total)
		if f.cols >= barColumns {
			amount = bar(it.current, it.total) + " " + amount
		}
	}
	took := f.now.Sub(it.started)
	name := clean([]byte(it.name))
	room := f.cols - width(itemPrefix) - width(amount) - 1 - width(seconds(took)) - 2
	if room < 8 { // not even the start of a digest
		return f.timed(itemPrefix+amount, took)
	}
	return f.timed(itemPrefix+clip(name, room)+" "+amount, took)
}

// bar is a drawing of current of total.
func bar(current, total int64) string {
	n := int(float64(barWidth) * float64(min(max(current, 0), total)) / float64(total))
	body := strings.Repeat("=", n)
	if n < barWidth {
		body += ">" + strings.Repeat(" ", barWidth-n-1)
	}
	return "[" + body + "]"
}

// output is the end of what a running step has written.
func (f *frame) output(s *liveStep) []line {
	if f.tail == 0 {
		return nil
	}
	raw := s.tail.lines
	if len(s.lines.part) > 0 {
		raw = append(slices.Clone(raw), lastBytes(s.lines.part))
	}
	var out []line
	for _, r := range raw[max(0, len(raw)-f.tail):] {
		out = append(out, line{clip(logPrefix+clean([]byte(r)), f.cols), f.colors.output})
	}
	return out
}

// bySpoken orders steps by their latest output, latest first.
func bySpoken(steps []*liveStep) []*liveStep {
	steps = slices.Clone(steps)
	slices.SortStableFunc(steps, func(a, b *liveStep) int { return b.spoke.Compare(a.spoke) })
	return steps
}

func seconds(d time.Duration) string {
	return fmt.Sprintf("%.1fs", max(0, d.Seconds()))
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }
