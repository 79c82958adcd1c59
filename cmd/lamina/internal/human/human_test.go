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
