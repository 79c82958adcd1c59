package human

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for _, tc := range []struct {
		n           int64
		size, bytes string
	}{
		{0, "0B", "0B"},
		{999, "999B", "999B"},
		{1000, "1kB", "1.00kB"},
		{1234, "1.23kB", "1.23kB"},
		{72_812_345, "72.8MB", "72.81MB"},
		{133_400_000, "133MB", "133.40MB"},
		{999_499, "999kB", "999.50kB"},
		{999_999, "1MB", "1.00MB"},
		{999_999_999_999, "1TB", "1.00TB"},
		{1<<63 - 1, "9.22EB", "9.22EB"},
		{-5_000, "-5kB", "-5.00kB"},
	} {
		if got := Size(tc.n); got != tc.size {
			t.Errorf("Size(%d) = %q, want %q", tc.n, got, tc.size)
		}
		if got := Bytes(tc.n); got != tc.bytes {
			t.Errorf("Bytes(%d) = %q, want %q", tc.n, got, tc.bytes)
		}
	}
}

func TestDuration(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Hour, "Less than a second"},
		{999 * time.Millisecond, "Less than a second"},
		{1500 * time.Millisecond, "1 second"},
		{59 * time.Second, "59 seconds"},
		{60 * time.Second, "About a minute"},
		{2 * time.Minute, "2 minutes"},
		{59*time.Minute + 59*time.Second, "59 minutes"},
		{60 * time.Minute, "About an hour"},
		{90 * time.Minute, "2 hours"},
		{47 * time.Hour, "47 hours"},
		{2 * day, "2 days"},
		{13 * day, "13 days"},
		{14 * day, "2 weeks"},
		{60 * day, "2 months"},
		{729 * day, "24 months"},
		{730 * day, "2 years"},
	} {
		if got := Duration(tc.d); got != tc.want {
			t.Errorf("Duration(%v) = %q, want %q", tc.d, got, tc.want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	if got := Ago(now.Add(-2*time.Minute), now); got != "2 minutes ago" {
		t.Errorf("Ago = %q", got)
	}
	if got := Ago(time.Time{}, now); got != "N/A" {
		t.Errorf("Ago of the zero time = %q", got)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 49 * time.Millisecond: "0.0s", 340 * time.Millisecond: "0.3s", 12340 * time.Millisecond: "12.3s",
		99949 * time.Millisecond: "99.9s", 100 * time.Second: "1m 40s", 119600 * time.Millisecond: "2m 00s",
		59*time.Minute + 59*time.Second: "59m 59s", 3599600 * time.Millisecond: "1h 00m", 25*time.Hour + 89*time.Second: "25h 01m",
	} {
		if got := Took(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "36h": 36 * time.Hour, "7d": 7 * 24 * time.Hour, "0": 0, "1h30m": 90 * time.Minute, "0d": 0,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "7", "-1h", "-1d", "1.5d", "week", "99999999d"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}
