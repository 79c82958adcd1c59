package progress

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// palette holds the control sequences that begin each kind of line; empty ones
// change nothing.
type palette struct {
	run, cancel, err, warning, output string
}

const resetColor = "\x1b[0m"

// colorNames are the colours of BUILDKIT_COLORS by their SGR code (ECMA-48 8.3.117).
func colorNames() map[string]int {
	names := map[string]int{"default": 39}
	for i, name := range []string{"black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"} {
		names[name] = 30 + i
		names["light-"+name] = 90 + i
	}
	return names
}

// readPalette returns the colours to use: none with NO_COLOR, otherwise the
// reference's, changed by BUILDKIT_COLORS: "run=light-green:error=255,0,0".
func readPalette(getenv func(string) string, log *slog.Logger) palette {
	if getenv("NO_COLOR") != "" {
		return palette{}
	}
	p := palette{run: sgr(34), cancel: sgr(33), err: sgr(31), warning: sgr(33), output: sgr(2)}
	spec := getenv("BUILDKIT_COLORS")
	if spec == "" {
		return p
	}
	for _, field := range strings.Split(spec, ":") {
		key, value, _ := strings.Cut(field, "=")
		slot := p.slot(key)
		code, ok := parseColor(value)
		if slot == nil || !ok {
			log.Warn("BUILDKIT_COLORS: not a colour setting", "setting", field)
			continue
		}
		*slot = code
	}
	return p
}

// slot is the colour that key names, or nil.
func (p *palette) slot(key string) *string {
	switch strings.ToLower(key) {
	case "run":
		return &p.run
	case "cancel":
		return &p.cancel
	case "error":
		return &p.err
	case "warning":
		return &p.warning
	}
	return nil
}

// parseColor understands a name and "r,g,b" with values from 0 to 255.
func parseColor(s string) (string, bool) {
	if code, ok := colorNames()[strings.ToLower(s)]; ok {
		return sgr(code), true
	}
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return "", false
	}
	var rgb [3]uint64
	for i, part := range parts {
		v, err := strconv.ParseUint(strings.TrimSpace(part), 10, 8)
		if err != nil {
			return "", false
		}
		rgb[i] = v
	}
	// The 6x6x6 cube of the 256 colours, which more terminals have than true colour.
	n := 16 + 36*(rgb[0]/43) + 6*(rgb[1]/43) + rgb[2]/43
	return fmt.Sprintf("\x1b[38;5;%dm", n), true
}

func sgr(code int) string { return fmt.Sprintf("\x1b[%dm", code) }
