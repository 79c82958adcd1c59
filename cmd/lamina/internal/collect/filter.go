package collect

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter are conditions on what is kept, all of which have to hold.
type Filter []condition

type condition struct {
	key, value string
	not        bool
	unused     time.Duration
}

// dockers are the types that docker has for what is called otherwise here.
var dockers = map[string]Kind{
	"regular":             Step,
	"exec.cachemount":     Mount,
	"source.git.checkout": Git,
	"source.local":        StatIndex,
}

var filterTypes = []Kind{Step, Base, Download, Image, Layer, Blob, Mount, Git, Build}

// ParseFilter reads conditions as docker writes them: "until=24h" and "unused-for=24h"
// are true of what was not used for so long, "type=T" (and "type!=T") of what is of that type, in
// the words of Kind or docker's, "id=I" of what has an ID, or a cache mount's name,
// that is or begins with I.
func ParseFilter(conditions []string) (Filter, error) {
	var f Filter
	for _, text := range conditions {
		for one := range strings.SplitSeq(text, ",") {
			c, err := parseCondition(one)
			if err != nil {
				return nil, fmt.Errorf("--filter=%s: %w", one, err)
			}
			f = append(f, c)
		}
	}
	return f, nil
}

func parseCondition(text string) (c condition, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || value == "" {
		return c, fmt.Errorf("want KEY=VALUE, with until, unused-for, type or id for KEY")
	}
	value = strings.TrimPrefix(value, "=") // BuildKit's operator is ==
	key, c.not = strings.CutSuffix(key, "!")
	c.key, c.value = key, value
	switch key {
	case "until", "unused-for":
		c.unused, err = ParseAge(value)
	case "type":
		if kind, ok := dockers[value]; ok {
			c.value = string(kind)
		} else if value != "internal" && value != "frontend" && !slices.Contains(filterTypes, Kind(value)) {
			return c, fmt.Errorf("there is no such type: want one of %s", join(filterTypes))
		}
	case "id":
	default:
		return c, fmt.Errorf("there is no such filter: want until, unused-for, type or id")
	}
	return c, err
}

func join(kinds []Kind) string {
	var words []string
	for _, k := range kinds {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// ParseAge reads a duration as time.ParseDuration does, or days: "14d".
func ParseAge(text string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(text, "d")
	if isDays {
		d, err := time.ParseDuration(days + "h")
		if err == nil && d >= 0 && d < 1<<62/24 {
			return 24 * d, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is no time: want one like 24h, 90m or 14d", text)
}

// holder returns what is true of the holders that match, nil for no filter.
func (f Filter) holder(now time.Time) func(*holder) bool {
	if len(f) == 0 {
		return nil
	}
	return func(h *holder) bool {
		for _, c := range f {
			if c.holds(h, now) == c.not {
				return false
			}
		}
		return true
	}
}

func (c condition) holds(h *holder, now time.Time) bool {
	switch c.key {
	case "type":
		return string(h.kind) == c.value
	case "id":
		id := strings.TrimPrefix(c.value, "sha256:")
		if h.kind == Mount && h.title == c.value || strings.HasPrefix(h.id, id) {
			return true
		}
		top := h.top()
		return top != nil && strings.HasPrefix(top.name, id)
	}
	return now.Sub(h.used) >= c.unused
}

// top is the uppermost layer of a result, nil if it has none here.
func (h *holder) top() (u *unit) {
	for _, v := range h.units {
		if v.kind == Layer {
			u = v
		}
	}
	return u
}
