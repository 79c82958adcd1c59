package builds

import (
	"fmt"
	"strings"
	"time"

	"lamina/cmd/lamina/internal/human"
)

// Filter tells whether a build is wanted.
type Filter func(*Build) bool

// filterKeys are what filters can ask of, for people.
const filterKeys = "status, name, context (with = or !=), duration, startedAt, completedAt (with < or >)"

// ParseFilter parses a filter in the form of docker buildx: KEY=VALUE, KEY!=VALUE,
// KEY<VALUE or KEY>VALUE. A time is RFC 3339, a day, or how long it was before now.
// A name matches if it contains the value.
func ParseFilter(text string, now time.Time) (Filter, error) {
	at := strings.IndexAny(text, "!=<>")
	if at < 0 {
		return nil, fmt.Errorf("filter %q: want KEY=VALUE", text)
	}
	key := text[:at]
	op := text[at : at+1]
	if strings.HasPrefix(text[at:], "!=") || strings.HasPrefix(text[at:], "<=") || strings.HasPrefix(text[at:], ">=") {
		op = text[at : at+2]
	}
	value := text[at+len(op):]
	switch key {
	case "status", "name", "context":
		return textFilter(key, op, value)
	case "duration", "startedAt", "completedAt":
		return timeFilter(key, op, value, now)
	}
	return nil, fmt.Errorf("filter %q: there is no %q; there are %s", text, key, filterKeys)
}

func textFilter(key, op, value string) (Filter, error) {
	if op != "=" && op != "!=" {
		return nil, fmt.Errorf("filter %s%s%s: %s is compared with = or !=", key, op, value, key)
	}
	is := map[string]Filter{
		"name":    func(b *Build) bool { return strings.Contains(b.Title(), value) },
		"context": func(b *Build) bool { return b.Context == value },
	}[key]
	if key == "status" {
		status, err := parseStatus(value)
		if err != nil {
			return nil, err
		}
		is = func(b *Build) bool { return b.Status == status }
	}
	return func(b *Build) bool { return is(b) == (op == "=") }, nil
}

// parseStatus reads a status, in docker's words or ours.
func parseStatus(s string) (Status, error) {
	switch status := Status(strings.ToLower(s)); status {
	case Running, Succeeded, Failed, Canceled, Killed:
		return status, nil
	case "success", "completed":
		return Succeeded, nil
	case "error":
		return Failed, nil
	}
	return "", fmt.Errorf("filter status: a build is not %q, but %s, %s, %s, %s or %s", s, Succeeded, Failed, Canceled, Killed, Running)
}

// timeFilter compares a time or a duration. What a build does not have (when it was
// completed, while it runs) compares with nothing.
func timeFilter(key, op, value string, now time.Time) (Filter, error) {
	if op == "=" || op == "!=" {
		return nil, fmt.Errorf("filter %s%s%s: %s is compared with < or >", key, op, value, key)
	}
	compare := func(c int) bool {
		return c < 0 && op[0] == '<' || c > 0 && op[0] == '>' || c == 0 && len(op) == 2
	}
	if key == "duration" {
		limit, err := human.ParseDuration(value)
		if err != nil {
			return nil, fmt.Errorf("filter %s: %w", key, err)
		}
		return func(b *Build) bool { return compare(int(b.Took(now) - limit)) }, nil
	}
	limit, err := parseTime(value, now)
	if err != nil {
		return nil, fmt.Errorf("filter %s: %w", key, err)
	}
	if key == "startedAt" {
		return func(b *Build) bool { return compare(b.Started.Compare(limit)) }, nil
	}
	return func(b *Build) bool { return !b.Ended.IsZero() && compare(b.Ended.Compare(limit)) }, nil
}

func parseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := human.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2006-01-02T15:04:05Z nor a duration such as 24h", s)
	}
	return now.Add(-d), nil
}
