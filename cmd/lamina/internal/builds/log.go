package builds

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// frame is a piece of what was printed during a build. A log is its frames in the order
// in which they came, each as
//
//	<step> <microseconds since the build began> <bytes>\n
//	<the bytes>\n
//
// The step is a position in [Build.Steps]. Whoever is killed may leave half a frame at
// the end, which is never read.
type frame struct {
	step int
	at   time.Duration
	data []byte
}

// maxFrame is how many bytes one frame has at most.
const maxFrame = 1 << 20

// logWriter appends to a build's log, which it makes when there is something to be
// written. What cannot be written ends the log, and nothing else: no build fails
// because it cannot be remembered.
type logWriter struct {
	path  string
	file  *os.File
	size  int64 // of whole frames
	frame []byte
	err   error // why the log ends
	asked int64 // the size at which there was enough space
}

func (w *logWriter) write(step int, at time.Duration, data []byte) {
	for len(data) > 0 && w.err == nil {
		piece := data[:min(len(data), maxFrame)]
		data = data[len(piece):]
		w.frame = fmt.Appendf(w.frame[:0], "%d %d %d\n", step, at.Microseconds(), len(piece))
		w.frame = append(append(w.frame, piece...), '\n')
		w.err = w.append(w.frame)
		if w.err != nil {
			w.close()
		}
	}
}

func (w *logWriter) append(p []byte) (err error) {
	if w.file == nil {
		w.file, err = os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
	}
	if w.size-w.asked >= spaceInterval {
		if err := enoughSpace(w.file); err != nil {
			return err
		}
		w.asked = w.size
	}
	if _, err := w.file.Write(p); err != nil {
		w.file.Truncate(w.size)
		return err
	}
	w.size += int64(len(p))
	return nil
}

func (w *logWriter) close() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	w.frame = nil
}

// A log leaves the build some space: reserve or, of a small disk, the share
// 1/reserveShare of it. That is looked at each time it has grown by spaceInterval.
const (
	reserve       = 256 << 20
	reserveShare  = 16
	spaceInterval = 8 << 20
)

var errNoSpace = errors.New("there is little space left on the disk")

func enoughSpace(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return nil // a disk that cannot say is not known to be full
	}
	if int64(st.Bavail)*st.Bsize < min(reserve, int64(st.Blocks)*st.Bsize/reserveShare)+spaceInterval {
		return errNoSpace
	}
	return nil
}

// logReader reads the frames of a log, which may be growing.
type logReader struct {
	file   *os.File
	read   *bufio.Reader
	offset int64 // of the next frame
	data   []byte
}

// openLog opens the log of a build: fs.ErrNotExist if there is none.
func (s *Store) openLog(id string) (*logReader, error) {
	f, err := os.Open(s.path(id, logFile))
	if err != nil {
		return nil, err
	}
	r := &logReader{file: f, read: bufio.NewReaderSize(nil, 64<<10)}
	r.seek(0)
	return r, nil
}

func (r *logReader) Close() error { return r.file.Close() }

func (r *logReader) seek(offset int64) {
	r.offset = offset
	r.read.Reset(io.NewSectionReader(r.file, offset, math.MaxInt64-offset))
}

// next returns the next frame of a step for which want is true. Its data
// is valid until the next call. It is io.EOF if there is none yet; once there is one it can be read.
func (r *logReader) next(want func(step int) bool) (frame, error) {
	for {
		head, err := r.read.ReadSlice('\n')
		if err == io.EOF {
			r.seek(r.offset)
			return frame{}, io.EOF
		}
		f, size, ok := parseHead(head)
		if err != nil || !ok {
			return frame{}, fmt.Errorf("the log is damaged at byte %d", r.offset)
		}
		f.data, err = r.body(size, want(f.step))
		if err == io.EOF {
			r.seek(r.offset)
			return frame{}, io.EOF
		}
		if err != nil {
			return frame{}, err
		}
		r.offset += int64(len(head) + size + 1)
		if f.data != nil {
			return f, nil
		}
	}
}

// body reads what follows a head: size bytes, which are not returned if nobody wants
// them, and a line feed. It is io.EOF if that is not all there.
func (r *logReader) body(size int, want bool) ([]byte, error) {
	if !want {
		n, err := r.read.Discard(size + 1)
		if n < size+1 && err == nil {
			err = io.EOF
		}
		return nil, err
	}
	if cap(r.data) < size+1 {
		r.data = make([]byte, size+1)
	}
	data := r.data[:size+1]
	if _, err := io.ReadFull(r.read, data); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return nil, err
	}
	return data[:size], nil
}

func parseHead(head []byte) (f frame, size int, ok bool) {
	fields := bytes.Fields(head)
	if len(fields) != 3 {
		return f, 0, false
	}
	var n [3]int64
	for i, field := range fields {
		var err error
		if n[i], err = strconv.ParseInt(string(field), 10, 64); err != nil {
			return f, 0, false
		}
	}
	if n[2] <= 0 || n[2] > maxFrame || n[0] < 0 || n[0] != int64(int32(n[0])) {
		return f, 0, false
	}
	return frame{step: int(n[0]), at: time.Duration(n[1]) * time.Microsecond}, int(n[2]), true
}
