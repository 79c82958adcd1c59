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
func DefaultLimits() Limits {
	return Limits{Builds: 200, Age: 30 * 24 * time.Hour, Logs: 1 << 30}
}

// Trim forgets what exceeds the limits at the time now, but nothing that is
// running.
func (s *Store) Trim(now time.Time, l Limits) error {
	ids, err := s.IDs()
	if err != nil {
		return err
	}
	return errors.Join(s.forget(now, l, ids), s.trimLogs(l.Logs))
}

// forget forgets those of ids, all builds with the latest first, that exceed the limits.
func (s *Store) forget(now time.Time, l Limits, ids []string) error {
	var errs []error
	for i, id := range ids {
		if i == 0 || i < l.Builds && now.Sub(timeOf(id)) <= l.Age {
			continue
		}
		err := s.Remove(id)
		if err != nil && !errors.Is(err, ErrRunning) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// trimLogs removes the oldest logs beyond limit, in bytes.
func (s *Store) trimLogs(limit int64) error {
	ids, err := s.IDs()
	if err != nil {
		return err
	}
	var errs []error
	var size int64
	for i, id := range ids {
		n := s.logSize(id)
		if size += n; n == 0 || size <= limit || i == 0 || s.running(id) {
			continue
		}
		if err := os.Remove(s.path(id, logFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
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
