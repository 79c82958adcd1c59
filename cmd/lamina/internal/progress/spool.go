package progress

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how much of one step's output is kept in memory.
const spoolMemory = 64 << 10

// spool keeps the whole output of a step, so that all of it can be shown if the
// step fails: first in memory, then in a temporary file without a name. If that
// cannot be written, for the disk may be what is full, the latest output is
// kept. The zero spool is ready to use.
type spool struct {
	mem  bytes.Buffer // what came after what is in file
	file *os.File
	err  error // why the file cannot be written
	lost bool  // output between file and mem was dropped
}

// Write keeps p. It never fails.
func (s *spool) Write(p []byte) (int, error) {
	s.mem.Write(p)
	if s.mem.Len() <= spoolMemory {
		return len(p), nil
	}
	if s.file == nil && s.err == nil {
		s.file, s.err = unnamedFile()
	}
	if s.err == nil {
		_, s.err = s.mem.WriteTo(s.file)
	}
	if s.mem.Len() > spoolMemory {
		s.mem.Next(s.mem.Len() - spoolMemory/2)
		s.mem.ReadBytes('\n') // the rest of a line
		s.lost = true
	}
	return len(p), nil
}

// WriteTo writes everything that was kept to w.
func (s *spool) WriteTo(w io.Writer) (int64, error) {
	var n int64
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		k, err := io.Copy(w, s.file)
		if n += k; err != nil {
			return n, err
		}
	}
	if s.lost {
		k, err := fmt.Fprintf(w, "[output is missing here: %v]\n", s.err)
		if n += int64(k); err != nil {
			return n, err
		}
	}
	k, err := w.Write(s.mem.Bytes())
	return n + int64(k), err
}

func (s *spool) empty() bool { return s.file == nil && s.mem.Len() == 0 }

// Close discards what was kept.
func (s *spool) Close() {
	if s.file != nil {
		s.file.Close()
	}
	*s = spool{}
}

func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "lamina-log-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
