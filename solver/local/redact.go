package local

import (
	"bytes"
	"slices"

	"lamina/solver"
)

// shortestSecret is the length in bytes below which a line of a secret is not
// looked for: it would be found everywhere, and hides little.
const shortestSecret = 4

// redaction stands where a secret was.
var redaction = []byte("***")

// redactor is an Output that does not show secrets, though the command prints
// them. What could be the beginning of one is held back until it is decided.
// It is written to by one goroutine at a time.
type redactor struct {
	solver.Output
	secrets [][]byte  // lines of secrets, the longest first
	begins  [256]bool // the bytes that secrets begin with
	held    []byte
}

// redacting hides secrets from out. The caller must call flush when everything
// was written.
func redacting(out solver.Output, secrets [][]byte) *redactor {
	r := &redactor{Output: out}
	for _, s := range secrets {
		for line := range bytes.Lines(s) {
			if line = bytes.TrimSpace(line); len(line) >= shortestSecret {
				r.secrets = append(r.secrets, line)
				r.begins[line[0]] = true
			}
		}
	}
	slices.SortStableFunc(r.secrets, func(a, b []byte) int { return len(b) - len(a) })
	return r
}

func (r *redactor) Write(p []byte) (int, error) {
	if len(r.secrets) == 0 {
		return r.Output.Write(p)
	}
	if err := r.write(append(r.held, p...), false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush writes what was held back: nothing follows it that would make it a secret.
func (r *redactor) flush() error { return r.write(r.held, true) }

// write passes data on, but for what is not decided yet, unless this is the end.
func (r *redactor) write(data []byte, end bool) error {
	var shown []byte
	i := 0
	for i < len(data) {
		if !r.begins[data[i]] {
			shown = append(shown, data[i])
			i++
			continue
		}
		n, decided := r.match(data[i:])
		if !decided && !end {
			break
		}
		if n > 0 {
			shown = append(shown, redaction...)
			i += n
		} else {
			shown = append(shown, data[i])
			i++
		}
	}
	r.held = bytes.Clone(data[i:])
	if len(shown) == 0 {
		return nil
	}
	_, err := r.Output.Write(shown)
	return err
}

// match returns the length of the longest secret that data begins with, or 0, and
// whether more data could not change that.
func (r *redactor) match(data []byte) (n int, decided bool) {
	for _, s := range r.secrets { // the longest first
		if bytes.HasPrefix(data, s) {
			return len(s), true
		}
		if bytes.HasPrefix(s, data) {
			return r.longest(data), false
		}
	}
	return 0, true
}

// longest is the length of the longest secret that data begins with.
func (r *redactor) longest(data []byte) int {
	for _, s := range r.secrets {
		if bytes.HasPrefix(data, s) {
			return len(s)
		}
	}
	return 0
}
