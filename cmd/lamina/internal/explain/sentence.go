package explain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/human"
	"lamina/solver"
)

// sentence says what a cause is, in one line.
func (c *Cause) sentence(now time.Time) string {
	switch c.Kind {
	case Arg:
		return c.variable("ARG") + c.usedBy()
	case Env:
		text := c.variable("ENV")
		if c.Line == 0 && c.Before != "" && c.After != "" {
			text += " in the base image"
		}
		return text + c.usedBy()
	case Base:
		if c.Before == "" || strings.HasPrefix(c.Before, "sha256:") {
			return fmt.Sprintf("base %s moved %s", c.Subject, arrow(c.Before, c.After))
		}
		return fmt.Sprintf("base changed %s%s", arrow(c.Before, c.After), c.Step.atLine())
	case Platform:
		return fmt.Sprintf("platform changed %s", arrow(c.Before, c.After))
	case URL:
		return fmt.Sprintf("content of %s changed%s", c.Subject, c.Step.atLine())
	case Commit:
		text := fmt.Sprintf("commit of %s moved", c.Subject)
		if c.Before != "" || c.After != "" {
			text += " " + arrow(c.Before, c.After)
		}
		return text + c.Step.atLine()
	case NoCache:
		return c.Subject + " was given"
	}
	if (c.isShared() || c.Kind == Option && !c.isOfStep()) && len(c.Executed) > 1 {
		return c.local(now)
	}
	return c.Step.String() + ": " + c.local(now)
}

// isShared tells whether a cause can be that of steps which have nothing to do with
// each other.
func (c *Cause) isShared() bool {
	switch c.Kind {
	case New:
		return c.all
	case Evicted, Gone, Lost, Absent, NoCache:
		return true
	}
	return false
}

// isOfStep tells whether an option is one step's own: others are of the build, or
// are in force for all steps that come after.
func (c *Cause) isOfStep() bool {
	switch c.Subject {
	case "--chown", "--chmod", "--exclude", "--parents", "--unpack", "--link", "--checksum", "--keep-git-dir":
		return true
	}
	return false
}

// local says what a cause is that is about one step.
func (c *Cause) local(now time.Time) string {
	switch c.Kind {
	case New:
		return "never built here"
	case Evicted:
		return fmt.Sprintf("record evicted %s by %s", human.Ago(c.When, now), who(c.Subject))
	case Gone:
		return "built before, but its record is gone"
	case Lost:
		return "remembered, but its layer is gone"
	case Absent:
		return "a cache knows the step, but does not have its layer"
	case Files:
		return c.files()
	case Text:
		if c.Subject != "" {
			return c.Subject + " changed"
		}
		return "step text changed: " + arrow(brief(c.Before), brief(c.After))
	case Option:
		return fmt.Sprintf("%s changed %s", c.Subject, values(c.Before, c.After))
	case Mount, Secret:
		what := "mount"
		if strings.HasPrefix(cmp.Or(c.After, c.Before), "type=ssh") {
			what = "agent"
		} else if c.Kind == Secret {
			what = "secret"
		}
		switch {
		case c.Before == "":
			return fmt.Sprintf("%s %s is new (%s)", what, c.Subject, c.After)
		case c.After == "":
			return fmt.Sprintf("%s %s was removed (%s)", what, c.Subject, c.Before)
		}
		return fmt.Sprintf("%s %s changed %s", what, c.Subject, arrow(c.Before, c.After))
	case Inserted:
		return fmt.Sprintf("%s is new before it%s", brief(c.Subject), atLine(c.Line))
	case Removed:
		return fmt.Sprintf("%s before it was removed", brief(c.Subject))
	case Moved:
		if c.Subject == "" {
			return fmt.Sprintf("reordered: it came after %s, and comes after %s now", brief(c.Before), brief(c.After))
		}
		return fmt.Sprintf("reordered: %s was %s it, and comes %s it now", brief(c.Subject), c.Before, c.After)
	case Parent:
		if c.Before == "" {
			return "it stands on something else than before"
		}
		return fmt.Sprintf("stands on something else: %s", arrow(brief(c.Before), brief(c.After)))
	case Failed:
		if c.Subject == string(builds.Canceled) {
			return "interrupted before, and so never remembered"
		}
		return "failed before, and so never remembered"
	}
	return "nothing is known that differs"
}

// variable says how a variable changed.
func (c *Cause) variable(what string) string {
	switch {
	case c.Before == "" && c.After == "":
		return fmt.Sprintf("%s %s is new%s", what, c.Subject, atLine(c.Line))
	case c.After == "" && c.Line == 0:
		return fmt.Sprintf("%s %s (was %s) is gone", what, c.Subject, quoted(c.Before))
	case c.Before == "":
		return fmt.Sprintf("%s %s is new: %s%s", what, c.Subject, quoted(c.After), atLine(c.Line))
	}
	return fmt.Sprintf("%s %s changed %s%s", what, c.Subject, arrow(quoted(c.Before), quoted(c.After)), atLine(c.Line))
}

// usedBy says which step uses a variable first.
func (c *Cause) usedBy() string {
	keyword, _, _ := strings.Cut(c.Step.Text, " ")
	if c.Step.Line == 0 {
		return ""
	}
	return fmt.Sprintf(", used by %s at line %d", keyword, c.Step.Line)
}

// files says which files changed, how, and how many more.
func (c *Cause) files() string {
	if len(c.Files) == 0 {
		return "files changed; which ones is not known any more"
	}
	text := c.Files[0].String()
	if more := len(c.Files) - 1 + c.More; more == 1 {
		text += ", and 1 more file"
	} else if more > 1 {
		text += fmt.Sprintf(", and %d more files", more)
	}
	return text
}

// String says what happened to a file.
func (f File) String() string {
	name := f.Path
	if strconv.Quote(name) != `"`+name+`"` {
		name = strconv.Quote(name)
	}
	switch f.Change {
	case "new":
		return "new file " + name
	case "removed":
		return name + " removed"
	case "mode", "owner", "type":
		return fmt.Sprintf("%s %s %s", name, f.Change, arrow(f.Before, f.After))
	}
	if f.Before != "" {
		return fmt.Sprintf("%s changed (%s %s)", name, f.Change, arrow(f.Before, f.After))
	}
	return fmt.Sprintf("%s changed (%s)", name, f.Change)
}

// String is a step by its text and line: "COPY . . (line 9)".
func (s Step) String() string { return brief(s.Text) + s.atLine() }

func (s Step) atLine() string { return atLine(s.Line) }

func atLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", line)
}

// maxBrief is how much of a text is shown, in characters.
const maxBrief = 60

// brief is a text in one line that is not too long, and cannot control a terminal: it
// may be from a cache, where others wrote it.
func brief(text string) string {
	text = printable(strings.Join(strings.Fields(text), " "))
	if r := []rune(text); len(r) > maxBrief {
		return string(r[:maxBrief-1]) + "…"
	}
	return text
}

// printable is text with a mark for each character that is not to be printed.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

func arrow(before, after string) string { return before + " -> " + after }

// values is arrow for values that may be empty.
func values(before, after string) string { return arrow(orNone(before), orNone(after)) }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return brief(s)
}

func quoted(s string) string { return strconv.Quote(brief(s)) }

// who is what removed a record, as a sentence has it.
func who(reason string) string {
	switch reason {
	case "age":
		return "its age"
	case "size cap":
		return "the size cap"
	}
	return "'lamina " + reason + "'"
}

// short is a digest as people know it.
func short(d digest.Digest) string {
	const n = len("sha256:") + 12
	return string(d)[:min(len(d), n)]
}

// remote is where a source comes from.
func remote(s *builds.Step) string {
	var op struct{ URL, Remote, Ref, Subdir string }
	_ = json.Unmarshal(s.Op, &op)
	if s.Kind == "http" {
		return op.URL
	}
	return gitName(solver.Git{Remote: op.Remote, Ref: op.Ref, Subdir: op.Subdir})
}
