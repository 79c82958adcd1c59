// Picture draws what a terminal showed in the end as an SVG. The one in the README
// is made by
//
//	script -qec testdata/demo/demo /tmp/session </dev/null
//	go run ./testdata/demo/picture -keep 'scratch|edit|It runs' < /tmp/session > docs/session.svg
//
// It knows the control sequences that lamina's progress display writes, and keeps
// the sections (a line that begins with "# ", and what follows) that match.
package main

import (
	"flag"
	"fmt"
	"html"
	"io"
	"log"
	"os"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	keep := flag.String("keep", "", "headings of the sections to draw")
	flag.Parse()
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	draw(os.Stdout, sections(screen(string(in)), regexp.MustCompile(*keep)))
}

// cell is a character on the screen, and the number of its color.
type cell struct {
	char  rune
	color int
}

var sequence = regexp.MustCompile(`^\x1b\[(\??)([0-9;]*)([A-Za-z])`)

// screen returns the lines of a terminal that was sent text, however many there are.
func screen(text string) [][]cell {
	lines, row, col, color := [][]cell{nil}, 0, 0, 0
	for text != "" {
		if m := sequence.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			n, _ := strconv.Atoi(m[2])
			switch m[3] {
			case "A":
				row = max(0, row-max(n, 1))
			case "K":
				lines[row] = lines[row][:min(col, len(lines[row]))]
			case "J":
				lines[row] = lines[row][:min(col, len(lines[row]))]
				lines = lines[:row+1]
			case "m":
				color = n
			}
			continue
		}
		char := []rune(text[:min(4, len(text))])[0]
		text = text[len(string(char)):]
		switch char {
		case '\r':
			col = 0
		case '\n':
			if row++; row == len(lines) {
				lines = append(lines, nil)
			}
		default:
			for len(lines[row]) <= col {
				lines[row] = append(lines[row], cell{' ', 0})
			}
			lines[row][col] = cell{char, color}
			col++
		}
	}
	return lines
}

// sections returns the sections whose heading matches keep.
func sections(lines [][]cell, keep *regexp.Regexp) (kept [][]cell) {
	keeping := false
	for _, line := range lines {
		var text strings.Builder
		for _, c := range line {
			text.WriteRune(c.char)
		}
		if strings.HasPrefix(text.String(), "# ") {
			keeping = keep.MatchString(text.String())
		}
		if keeping && !strings.HasPrefix(text.String(), "Script ") {
			kept = append(kept, line)
		}
	}
	for len(kept) > 0 && len(kept[len(kept)-1]) == 0 {
		kept = kept[:len(kept)-1]
	}
	return kept
}

// The size of a character, and of the frame, in pixels.
const (
	width, height = 7.8, 18
	margin        = 14
	columns       = 82
)

// draw writes lines as an SVG.
func draw(w io.Writer, lines [][]cell) {
	colors := map[int]string{0: "#d0d7de", 1: "#ffffff", 31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 36: "#a5d6ff"}
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="13">`+"\n",
		columns*width+2*margin, len(lines)*height+2*margin)
	fmt.Fprintln(w, `<rect width="100%" height="100%" rx="8" fill="#0d1117"/>`)
	for i, line := range lines {
		for from := 0; from < len(line); {
			to, text := from, ""
			for to < len(line) && line[to].color == line[from].color {
				text += string(line[to].char)
				to++
			}
			if strings.TrimSpace(text) != "" {
				fmt.Fprintf(w, `<text x="%.1f" y="%d" textLength="%.1f" fill="%s" xml:space="preserve">%s</text>`+"\n",
					margin+float64(from)*width, margin+(i+1)*height-5, float64(to-from)*width, colors[line[from].color], html.EscapeString(text))
			}
			from = to
		}
	}
	fmt.Fprintln(w, "</svg>")
}
