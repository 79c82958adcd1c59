package progress

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// wide are the characters that take two cells of a terminal: those of East
// Asian Width W and F (Unicode Standard Annex 11), in ranges generous enough to
// need no table of each release.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x23e9, 0x23ec, 1}, {0x23f0, 0x23f3, 3},
		{0x25fd, 0x25fe, 1}, {0x2614, 0x2615, 1}, {0x2648, 0x2653, 1}, {0x267f, 0x2693, 20},
		{0x26a1, 0x26aa, 9}, {0x26ab, 0x26bd, 18}, {0x26be, 0x26c4, 6}, {0x26c5, 0x26ce, 9},
		{0x26d4, 0x26ea, 22}, {0x26f2, 0x26f3, 1}, {0x26f5, 0x26fa, 5}, {0x26fd, 0x2705, 8},
		{0x270a, 0x270b, 1}, {0x2728, 0x274c, 36}, {0x274e, 0x2753, 5}, {0x2754, 0x2755, 1},
		{0x2757, 0x2795, 62}, {0x2796, 0x2797, 1}, {0x27b0, 0x27bf, 15}, {0x2b1b, 0x2b1c, 1},
		{0x2b50, 0x2b55, 5}, {0x2e80, 0x303e, 1}, {0x3041, 0xa4cf, 1}, {0xa960, 0xa97f, 1},
		{0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe10, 0xfe19, 1}, {0xfe30, 0xfe6f, 1},
		{0xff01, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{
		{0x16fe0, 0x18aff, 1}, {0x1b000, 0x1b2ff, 1}, {0x1f004, 0x1f0cf, 203}, {0x1f18e, 0x1f18e, 1},
		{0x1f191, 0x1f19a, 1}, {0x1f200, 0x1f320, 1}, {0x1f32d, 0x1f64f, 1}, {0x1f680, 0x1f6ff, 1},
		{0x1f7e0, 0x1f7f0, 1}, {0x1f900, 0x1f9ff, 1}, {0x1fa70, 0x1faff, 1}, {0x20000, 0x3fffd, 1},
	},
}

// runeWidth is the number of cells r takes.
func runeWidth(r rune) int {
	switch {
	case r >= 0x20 && r < 0x7f:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// width is the number of cells s takes; s has no control characters.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// clip shortens s to at most cells cells, with an ellipsis for what is missing.
func clip(s string, cells int) string {
	if width(s) <= cells {
		return s
	}
	if cells <= 0 {
		return ""
	}
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > cells-1 { // one cell is the ellipsis's
			return s[:i] + "…"
		}
	}
	return s
}

// pad fills s with spaces to cells cells.
func pad(s string, cells int) string {
	return s + strings.Repeat(" ", max(0, cells-width(s)))
}

// tabStop is the distance of a terminal's tab stops.
const tabStop = 8

// clean is what a terminal would show of one line of output: escape sequences
// are left out, carriage returns and backspaces overwrite, tabs are spaces, and
// nothing can move the cursor or set a colour.
func clean(line []byte) string {
	var cells []rune
	at := 0
	put := func(r rune) {
		if at < len(cells) {
			cells[at] = r
		} else {
			cells = append(cells, r)
		}
		at++
	}
	for len(line) > 0 {
		if n := escape(line); n > 0 {
			line = line[n:]
			continue
		}
		r, n := utf8.DecodeRune(line)
		line = line[n:]
		switch {
		case r == '\r':
			at = 0
		case r == '\b':
			at = max(0, at-1)
		case r == '\t':
			put(' ')
			for at%tabStop != 0 {
				put(' ')
			}
		case !unicode.IsControl(r):
			put(r)
		}
	}
	return strings.TrimRight(string(cells), " ")
}

// escape is the length of the escape sequence (ECMA-48) that b begins with; 0 if
// it begins with something else.
func escape(b []byte) int {
	if len(b) < 2 || b[0] != 0x1b {
		return 0
	}
	i := 2
	switch b[1] {
	case '[': // control sequence: parameters, then one final byte
		for i < len(b) && (b[i] < 0x40 || b[i] > 0x7e) {
			i++
		}
		return min(i+1, len(b))
	case ']', 'P', '_', '^', 'X': // a string, until BEL or ESC \
		for i < len(b) && b[i] != 0x07 && b[i] != 0x1b {
			i++
		}
		if i+1 < len(b) && b[i] == 0x1b && b[i+1] == '\\' {
			i++
		}
		return min(i+1, len(b))
	}
	for b[i-1] >= 0x20 && b[i-1] <= 0x2f && i < len(b) { // intermediate bytes: character sets
		i++
	}
	return i
}
