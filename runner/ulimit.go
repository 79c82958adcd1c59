package runner

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseUlimit reads "name=soft[:hard]"; -1 is unlimited, and a missing hard
// limit is the soft one.
func ParseUlimit(s string) (Ulimit, error) {
	name, value, ok := strings.Cut(s, "=")
	soft, hard, both := strings.Cut(value, ":")
	if !both {
		hard = soft
	}
	u := Ulimit{Name: name}
	var err1, err2 error
	u.Soft, err1 = strconv.ParseInt(soft, 10, 64)
	u.Hard, err2 = strconv.ParseInt(hard, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Ulimit{}, fmt.Errorf("ulimit %q: want NAME=SOFT[:HARD], such as nofile=1024:2048", s)
	}
	_, err := rlimits([]Ulimit{u})
	return u, err
}
