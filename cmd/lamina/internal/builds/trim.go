package builds

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// Limits are how much is remembered. The latest build always is, whole.
type Limits struct {
	Builds int           // how many
	Age    time.Duration // how long
	Logs   int64         // bytes of logs; what exceeds it are the oldest logs
}

// DefaultLimits are those that recording keeps to.
var DefaultLimits = Limits{Builds: 200, Age: 30 * 24 * time.Hour, Logs: 1 << 30}

// Trim forgets what exceeds the limits at the time now, but nothing that is
// running.
func (s *Store) Trim(now time.Time, l Limits) error { return s.trim(now, l, true) }

// trim is Trim. Unless logs is set, it does not look at logs: they have not grown.
func (s *Store) trim(now time.Time, l Limits, logs bool) error {
	ids, err := s.IDs()
	if err != nil {
		return err
	}
	var errs []error
	var size int64
	for i, id := range ids {
		if i > 0 && (i >= l.Builds || now.Sub(timeOf(id)) > l.Age) {
			err := s.Remove(id)
			if err != nil && !errors.Is(err, ErrRunning) && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		if !logs {
			continue
		}
		size += s.logSize(id)
		if i > 0 && size > l.Logs && !s.running(id) {
			os.Remove(s.path(id, logFile)) // left to the next one if it fails
		}
	}
	return errors.Join(errs...)
}

// logSize is the size of a build's log; 0 if there is none.
func (s *Store) logSize(id string) int64 {
	st, err := os.Lstat(s.path(id, logFile))
	if err != nil {
		return 0
	}
	return st.Size()
}
