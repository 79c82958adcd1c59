package fileset

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Rule is one pattern of an ignore file (.dockerignore).
type Rule struct {
	// File is the ignore file's name, as whoever wrote it knows it.
	File string
	// Line is where the pattern stands, from 1.
	Line int
	// Text is the pattern as it was written, without the space around it.
	Text string

	pattern string // cleaned, with its "!"
}

// String says where the rule is and what it says: `line 3 of .dockerignore: "src/*"`.
func (r Rule) String() string {
	return fmt.Sprintf("line %d of %s: %q", r.Line, r.File, r.Text)
}

// Rules are what an ignore file says, in its order.
type Rules []Rule

// ReadIgnore reads an ignore file that is called file. A pattern that cannot be
// one is an error with its line.
func ReadIgnore(file string, r io.Reader) (Rules, error) {
	var rules Rules
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		if n > 1 {
			text = "\n" + text // only a file's first line may begin with a byte order mark
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		for _, p := range patterns {
			rule := Rule{File: file, Line: n, Text: strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff")), pattern: p}
			if _, err := patternmatcher.New([]string{p}); err != nil {
				return nil, fmt.Errorf("%s:%d: %q is not a valid pattern: %w", file, n, rule.Text, err)
			}
			rules = append(rules, rule)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%s: a line is longer than %d bytes", file, bufio.MaxScanTokenSize)
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return rules, nil
}

// Patterns are the rules as a matcher takes them: cleaned, "!" first.
func (rs Rules) Patterns() []string {
	patterns := make([]string, len(rs))
	for i, r := range rs {
		patterns[i] = r.pattern
	}
	return patterns
}
