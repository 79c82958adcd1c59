package builds

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func everything(int) bool { return true }

// logOf opens a log with this content.
func logOf(t *testing.T, content []byte) *logReader {
	t.Helper()
	s := openStore(t, t.TempDir())
	if err := os.MkdirAll(s.path("log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("log", logFile), content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := s.openLog("log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

type written struct {
	step int
	at   time.Duration
	data string
}

// written writes a log and returns its content.
func writeLog(t *testing.T, all []written) []byte {
	t.Helper()
	w := logWriter{path: filepath.Join(t.TempDir(), "log")}
	for _, f := range all {
		w.write(f.step, f.at, []byte(f.data))
	}
	w.close()
	if w.err != nil {
		t.Fatal(w.err)
	}
	content, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func readLog(t *testing.T, r *logReader, want func(int) bool) (all []written) {
	t.Helper()
	for {
		f, err := r.next(want)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, written{f.step, f.at, string(f.data)})
	}
}

func TestLog(t *testing.T) {
	all := []written{
		{0, 0, "first\n"},
		{12, 1500 * time.Microsecond, "no newline"},
		{0, time.Hour, "\n12 34 56\n"},
		{3, time.Hour, "\x00\xff"},
	}
	content := writeLog(t, all)
	if diff := cmp.Diff(all, readLog(t, logOf(t, content), everything), cmp.AllowUnexported(written{})); diff != "" {
		t.Error(diff)
	}
	one := readLog(t, logOf(t, content), func(step int) bool { return step == 0 })
	if diff := cmp.Diff([]written{all[0], all[2]}, one, cmp.AllowUnexported(written{})); diff != "" {
		t.Errorf("of one step: %s", diff)
	}
}

func TestLongFramesAreSplit(t *testing.T) {
	long := strings.Repeat("0123456789", maxFrame/4)
	got := readLog(t, logOf(t, writeLog(t, []written{{7, 0, long}})), everything)
	var joined strings.Builder
	for _, f := range got {
		joined.WriteString(f.data)
	}
	if len(got) != 3 || joined.String() != long {
		t.Errorf("%d bytes are %d frames of %d bytes", len(long), len(got), joined.Len())
	}
}

// Of a log that is cut anywhere, and grows again, all is read once.
func TestLogThatGrows(t *testing.T) {
	all := []written{{0, 0, "one\n"}, {1, 1000, "two\n"}, {0, 2000, "three\n"}}
	content := writeLog(t, all)
	for n := range len(content) {
		r := logOf(t, content[:n])
		got := readLog(t, r, everything)
		f, err := os.OpenFile(r.file.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content[n:]); err != nil {
			t.Fatal(err)
		}
		f.Close()
		got = append(got, readLog(t, r, everything)...)
		if diff := cmp.Diff(all, got, cmp.AllowUnexported(written{})); diff != "" {
			t.Fatalf("cut at %d: %s", n, diff)
		}
	}
}

func TestDamagedLog(t *testing.T) {
	for _, content := range []string{
		"\n", "1 2\nx\n", "1 2 3 4\nabc\n", "a 2 3\nabc\n", "-1 2 3\nabc\n", "1 2 0\n\n", "1 2 9999999\nabc\n",
		strings.Repeat("\x00", 4096), strings.Repeat("x", 100_000), "99999999999 2 3\nabc\n",
	} {
		r := logOf(t, append([]byte("0 0 3\nabc\n"), content...))
		if f, err := r.next(everything); err != nil || string(f.data) != "abc" {
			t.Fatalf("the frame before is %q, %v", f.data, err)
		}
		_, err := r.next(everything)
		zeros := strings.Trim(content, "\x00") == ""
		if (err == nil || errors.Is(err, io.EOF) || err.Error() != "the log is damaged at byte 10") && !zeros {
			t.Errorf("%.20q: %v", content, err)
		}
		if zeros && err != io.EOF { // as what a power failure leaves
			t.Errorf("zeros: %v", err)
		}
	}
}

func FuzzLogReader(f *testing.F) {
	f.Add([]byte("0 0 3\nabc\n1 5 1\nx\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := logOf(t, content)
		total := 0
		for {
			frame, err := r.next(everything)
			if err != nil {
				break
			}
			total += len(frame.data)
			if !bytes.Contains(content, frame.data) {
				t.Errorf("read %q", frame.data)
			}
		}
		if total > len(content) {
			t.Errorf("read %d bytes of %d", total, len(content))
		}
	})
}
