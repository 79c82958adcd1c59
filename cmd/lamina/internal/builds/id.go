package builds

import (
	"strings"
	"time"
)

// A build's ID is when it began, in hundredths of a second since 1970 and in
// Crockford's base 32: eight digits, as long as the year is below 2318. If that
// hundredth has a build already, or the clock was turned back, it is the one after
// the latest build's.
const (
	idDigits = "0123456789abcdefghjkmnpqrstvwxyz"
	idLength = 8
	idTick   = 10 * time.Millisecond
	idTicks  = 1 << (5 * idLength) // there are so many IDs
)

func idOf(ticks int64) string {
	var id [idLength]byte
	for i := len(id) - 1; i >= 0; i-- {
		id[i] = idDigits[ticks%int64(len(idDigits))]
		ticks /= int64(len(idDigits))
	}
	return string(id[:])
}

// ticksOf is the number that id stands for; ok is false if it is no ID.
func ticksOf(id string) (ticks int64, ok bool) {
	if len(id) != idLength {
		return 0, false
	}
	for _, c := range []byte(id) {
		digit := strings.IndexByte(idDigits, c)
		if digit < 0 {
			return 0, false
		}
		ticks = ticks*int64(len(idDigits)) + int64(digit)
	}
	return ticks, true
}

// nextID is the ID of a build that begins at now, after all those whose IDs are
// given, in any order.
func nextID(now time.Time, ids []string) string {
	ticks := max(0, now.UnixMilli()/idTick.Milliseconds())
	for _, id := range ids {
		if other, ok := ticksOf(id); ok && other+1 < idTicks { // else it is nobody's work
			ticks = max(ticks, other+1)
		}
	}
	return idOf(ticks)
}

// timeOf is when the build began, to the hundredth of a second.
func timeOf(id string) time.Time {
	ticks, _ := ticksOf(id)
	return time.UnixMilli(ticks * idTick.Milliseconds())
}
