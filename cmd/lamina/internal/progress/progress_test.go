package progress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNew(t *testing.T) {
	size := func() (int, int, error) { return 80, 24, nil }
	dumb := func(string) string { return "dumb" }
	for _, tc := range []struct {
		mode Mode
		opt  Options
		want string
	}{
		{Auto, Options{}, "*progress.plain"},
		{"", Options{}, "*progress.plain"},
		{Auto, Options{Size: size}, "*progress.tty"},
		{Auto, Options{Size: size, Getenv: dumb}, "*progress.plain"},
		{TTY, Options{Size: size}, "*progress.tty"},
		{TTY, Options{Size: size, Getenv: dumb}, "*progress.plain"},
		{TTY, Options{}, `progress "tty" needs a terminal`},
		{Plain, Options{Size: size}, "*progress.plain"},
		{Quiet, Options{Size: size}, "*progress.quiet"},
		{RawJSON, Options{Size: size}, "*progress.rawJSON"},
		{None, Options{Size: size}, "progress.none"},
		{"fancy", Options{}, `there is no display "fancy", want auto, none, plain, quiet, rawjson, tty`},
	} {
		d, err := New(tc.mode, io.Discard, tc.opt)
		got := fmt.Sprintf("%T", d)
		if err != nil {
			got = err.Error()
		} else {
			d.Close()
		}
		if got != tc.want {
			t.Errorf("New(%q) = %s, want %s", tc.mode, got, tc.want)
		}
	}
}

func TestQuiet(t *testing.T) {
	var out bytes.Buffer
	d, err := New(Quiet, &out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1000, 0)
	d.Event(Event{Time: at, Step: "a", Name: "A", Kind: Start})
	d.Event(Event{Time: at, Step: "a", Kind: Log, Log: []byte("fine\n")})
	d.Event(Event{Time: at, Step: "a", Kind: Done})
	d.Event(Event{Time: at, Step: "b", Name: "[2/2] RUN b", Kind: Start})
	d.Event(Event{Time: at.Add(time.Second), Step: "b", Kind: Log, Log: []byte("bad\nworse")})
	d.Event(Event{Time: at, Step: "b", Kind: Failed, Err: errors.New("exit code: 1")})
	d.Close()
	want := "------\n > [2/2] RUN b:\n1.000 bad\n1.000 worse\n------\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("wrong output (-want +got):\n%s", diff)
	}
}

func TestRawJSON(t *testing.T) {
	var out bytes.Buffer
	d, err := New(RawJSON, &out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	d.Event(Event{Time: at(0), Step: "a", Name: "A", Kind: Start})
	d.Event(Event{Time: at(1), Step: "a", Kind: Log, Log: []byte("hi\n")})
	d.Event(Event{Time: at(2), Step: "a", Kind: Bytes, Item: "blob", Current: 5, Total: 10})
	d.Event(Event{Time: at(3), Step: "a", Kind: Bytes, Item: "blob", Current: 10, Total: 10})
	d.Event(Event{Time: at(4), Step: "a", Kind: Warning, Log: []byte("hm")})
	d.Event(Event{Time: at(5), Step: "a", Kind: Failed, Err: errors.New("exit code: 1")})
	d.Event(Event{Time: at(6), Step: "b", Name: "B", Kind: Cached})
	d.Event(Event{Time: at(7), Step: "c", Name: "C", Kind: Canceled})
	d.Close()
	d.Event(Event{Step: "late", Kind: Start})
	a := "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
	b := "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
	c := "sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"
	want := `{"vertexes":[{"digest":"` + a + `","name":"A","started":"1970-01-01T00:00:00Z"}]}
{"logs":[{"vertex":"` + a + `","stream":1,"data":"aGkK","timestamp":"1970-01-01T00:00:01Z"}]}
{"statuses":[{"id":"blob","vertex":"` + a + `","total":10,"current":5,"timestamp":"1970-01-01T00:00:02Z","started":"1970-01-01T00:00:02Z"}]}
{"statuses":[{"id":"blob","vertex":"` + a + `","total":10,"current":10,"timestamp":"1970-01-01T00:00:03Z","started":"1970-01-01T00:00:02Z","completed":"1970-01-01T00:00:03Z"}]}
{"warnings":[{"vertex":"` + a + `","level":1,"short":"aG0="}]}
{"vertexes":[{"digest":"` + a + `","name":"A","started":"1970-01-01T00:00:00Z","completed":"1970-01-01T00:00:05Z","error":"exit code: 1"}]}
{"vertexes":[{"digest":"` + b + `","name":"B","started":"1970-01-01T00:00:06Z","completed":"1970-01-01T00:00:06Z","cached":true}]}
{"vertexes":[{"digest":"` + c + `","name":"C","started":"1970-01-01T00:00:07Z","completed":"1970-01-01T00:00:07Z","error":"context canceled"}]}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("wrong output (-want +got):\n%s", diff)
	}
}

func TestColorsThatAreNone(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	env := map[string]string{"BUILDKIT_COLORS": "run=mauve:cancel=1,2,300:walk=red:error=light-red:warning"}
	got := readPalette(func(k string) string { return env[k] }, logger)
	want := palette{run: "\x1b[34m", cancel: "\x1b[33m", err: "\x1b[91m", warning: "\x1b[33m", output: "\x1b[2m"}
	if got != want {
		t.Errorf("palette = %q, want %q", got, want)
	}
	wantLog := `level=WARN msg="BUILDKIT_COLORS: not a colour setting" setting="run=mauve"
level=WARN msg="BUILDKIT_COLORS: not a colour setting" setting="cancel=1,2,300"
level=WARN msg="BUILDKIT_COLORS: not a colour setting" setting="walk=red"
level=WARN msg="BUILDKIT_COLORS: not a colour setting" setting=warning
`
	if diff := cmp.Diff(wantLog, log.String()); diff != "" {
		t.Errorf("wrong warnings (-want +got):\n%s", diff)
	}
}

func TestClean(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain", "plain"},
		{"\x1b[1;31mred\x1b[0m text", "red text"},
		{"\x1b]0;title\x07after", "after"},
		{"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"},
		{"\x1b(Bset", "set"},
		{" 10%\r100%", "100%"},
		{"longer\rab", "abnger"},
		{"ab\b\bxy", "xy"},
		{"a\tb", "a       b"},
		{"12345678\tb", "12345678        b"},
		{"bell\a nul\x00", "bell nul"},
		{"bad \xff utf-8", "bad \ufffd utf-8"},
		{"cut off \x1b[3", "cut off"},
		{"cut off \x1b", "cut off"},
		{"你\r好", "好"},
	} {
		if got := clean([]byte(tc.in)); got != tc.want {
			t.Errorf("clean(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[1;31mred\x1b[0m \x1b]0;t\x07 a\tb\r\b\x1b(0"))
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, r := range clean(line) {
			if r < 0x20 || (r >= 0x7f && r < 0xa0) {
				t.Errorf("clean(%q) leaves %q", line, r)
			}
		}
	})
}

func TestClip(t *testing.T) {
	for _, tc := range []struct {
		in    string
		cells int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"abcd", 1, "…"},
		{"abcd", 0, ""},
		{"你好", 4, "你好"},
		{"你好", 3, "你…"},
		{"你好", 2, "…"},
		{"e\u0301e\u0301", 2, "e\u0301e\u0301"},
		{"🚀🚀", 3, "🚀…"},
	} {
		if got := clip(tc.in, tc.cells); got != tc.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tc.in, tc.cells, got, tc.want)
		}
	}
}

// All of a step's output is kept, however much it is, and nothing stays behind.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var s spool
	var want strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&s, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	var got bytes.Buffer
	if _, err := s.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("%d bytes came back, want %d", got.Len(), want.Len())
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("a file is visible: %v", files)
	}
	s.Close()
}

func TestSpoolWithoutDisk(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	var s spool
	for i := range 50_000 {
		fmt.Fprintf(&s, "line %d\n", i)
	}
	var got bytes.Buffer
	if _, err := s.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(got.String(), "\n")
	if !strings.HasPrefix(lines[0], "[output is missing here: ") || !strings.HasPrefix(lines[1], "line ") {
		t.Errorf("begins with %q, %q", lines[0], lines[1])
	}
	if last := lines[len(lines)-2]; last != "line 49999" {
		t.Errorf("ends with %q", last)
	}
	if got.Len() > 2*spoolMemory {
		t.Errorf("%d bytes are kept in memory", got.Len())
	}
}
