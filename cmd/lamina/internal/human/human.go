// Package human writes sizes and times as docker writes them for people.
package human

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

var units = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// scale finds the decimal unit for n such that, printed by format, the number
// stays below 1000.
func scale(n int64, format func(float64) string) string {
	v, i := float64(n), 0
	for i < len(units)-1 {
		// What is printed decides: 999,999 bytes are 1MB, not 1000kB.
		if f, err := strconv.ParseFloat(format(v), 64); err == nil && f < 1000 && f > -1000 {
			break
		}
		v /= 1000
		i++
	}
	return format(v) + units[i]
}

// Size is n bytes with three significant digits in decimal units: "72.8MB".
func Size(n int64) string {
	return scale(n, func(v float64) string {
		digits := 2
		switch {
		case v >= 100 || v <= -100:
			digits = 0
		case v >= 10 || v <= -10:
			digits = 1
		}
		f, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'f', digits, 64), 64)
		return strconv.FormatFloat(f, 'f', -1, 64) // without trailing zeros
	})
}

// Bytes is n bytes with two decimals, so that a growing number does not change
// its width with each step: "29.13MB". Below 1 kB it is a whole number.
func Bytes(n int64) string {
	if n < 1000 && n > -1000 {
		return strconv.FormatInt(n, 10) + units[0]
	}
	return scale(n, func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) })
}

// Duration is d in one unit: "5 minutes", "About an hour".
func Duration(d time.Duration) string {
	const (
		day   = 24 * time.Hour
		week  = 7 * day
		month = 30 * day
		year  = 365 * day
	)
	// Hours are rounded, all else is cut.
	hours := d.Round(time.Hour)
	switch {
	case d < time.Second:
		return "Less than a second"
	case d < 2*time.Second:
		return "1 second"
	case d < time.Minute:
		return count(d, time.Second, "seconds")
	case d < 2*time.Minute:
		return "About a minute"
	case d < time.Hour:
		return count(d, time.Minute, "minutes")
	case hours == time.Hour:
		return "About an hour"
	case hours < 2*day:
		return count(hours, time.Hour, "hours")
	case d < 2*week:
		return count(d, day, "days")
	case d < 2*month:
		return count(d, week, "weeks")
	case d < 2*year:
		return count(d, month, "months")
	}
	return count(d, year, "years")
}

// Ago is how long before now t was: "2 minutes ago"; "N/A" for the zero time.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return Duration(now.Sub(t)) + " ago"
}

func count(d, unit time.Duration, name string) string {
	return fmt.Sprintf("%d %s", d/unit, name)
}

// Took is how long something took, as short as it is of use: "0.3s", "12.3s",
// "1m 02s", "2h 05m".
func Took(d time.Duration) string {
	switch s := d.Round(time.Second); {
	case d < 100*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case s < time.Hour:
		return fmt.Sprintf("%dm %02ds", s/time.Minute, s%time.Minute/time.Second)
	}
	m := d.Round(time.Minute)
	return fmt.Sprintf("%dh %02dm", m/time.Hour, m%time.Hour/time.Minute)
}

// ParseDuration is time.ParseDuration, which also knows days: "36h", "7d".
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 24h or 7d", s)
	}
	return d, nil
}
