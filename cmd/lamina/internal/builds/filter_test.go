package builds

import (
	"strings"
	"testing"
	"time"
)

func TestFilters(t *testing.T) {
	b := sample() // began at noon, failed after 75 s
	now := noon.Add(2 * time.Hour)
	for _, test := range []struct {
		filter string
		want   bool
	}{
		{"status=failed", true},
		{"status=error", true},
		{"status=Failed", true},
		{"status=succeeded", false},
		{"status!=success", true},
		{"status!=failed", false},
		{"name=app", true},
		{"name=app:1", true},
		{"name!=tool", true},
		{"name=tool", false},
		{"context=/home/me/app", true},
		{"context=/home/me", false},
		{"duration>60s", true},
		{"duration>75s", false},
		{"duration>=75s", true},
		{"duration<2m", true},
		{"duration<=75s", true},
		{"duration<75s", false},
		{"startedAt>3h", true},
		{"startedAt>1h", false},
		{"startedAt<1h", true},
		{"startedAt>2026-11-22T11:59:59Z", true},
		{"startedAt<2026-11-22T11:59:59Z", false},
		{"startedAt>2026-11-20", true},
		{"completedAt<2026-11-22T12:02:00Z", true},
		{"completedAt>1d", true},
	} {
		f, err := ParseFilter(test.filter, now)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := f(b); got != test.want {
			t.Errorf("%s is %v", test.filter, got)
		}
	}
	b.Ended = time.Time{}
	for _, filter := range []string{"completedAt>1d", "completedAt<1d"} {
		if f, err := ParseFilter(filter, now); err != nil || f(b) {
			t.Errorf("a running build matches %s, %v", filter, err)
		}
	}
}

func TestWrongFilters(t *testing.T) {
	for filter, want := range map[string]string{
		"failed":          "want KEY=VALUE",
		"colour=red":      `there is no "colour"; there are status, name`,
		"status<failed":   "status is compared with = or !=",
		"status=good":     `a build is not "good", but succeeded, failed, canceled, killed or running`,
		"duration=3s":     "duration is compared with < or >",
		"duration>long":   `"long" is not a duration such as 90s, 24h or 7d`,
		"duration>-3s":    `"-3s" is not a duration`,
		"startedAt>today": `"today" is neither a time such as 2006-01-02T15:04:05Z nor a duration such as 24h`,
	} {
		if _, err := ParseFilter(filter, noon); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", filter, err, want)
		}
	}
}
