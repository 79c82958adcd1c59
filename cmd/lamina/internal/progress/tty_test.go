package progress

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// onScreen runs a build in virtual time on a terminal of that size.
func onScreen(t *testing.T, cols, rows int, build func(*screen, Display)) *screen {
	t.Helper()
	s := newScreen(cols, rows)
	synctest.Test(t, func(t *testing.T) {
		d, err := New(TTY, s, Options{Size: s.size})
		if err != nil {
			t.Fatal(err)
		}
		build(s, d)
		d.Close()
	})
	if s.hidden {
		t.Error("the cursor stays hidden")
	}
	return s
}

// pass lets virtual time go by and what is due be drawn.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func show(t *testing.T, s *screen, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), s.text()); diff != "" {
		t.Errorf("the screen is wrong (-want +got):\n%s", diff)
	}
}

func TestTTYWholeBuild(t *testing.T) {
	s := onScreen(t, 80, 24, func(s *screen, d Display) {
		d.Event(Event{Step: "a", Name: "[internal] load build definition from Dockerfile", Kind: Start})
		pass(40 * time.Millisecond)
		d.Event(Event{Step: "a", Kind: Done})
		d.Event(Event{Step: "b", Name: "[build 1/3] FROM debian", Kind: Start})
		d.Event(Event{Step: "b", Kind: Bytes, Item: "sha256:0123456789ab", Current: 12_300_000, Total: 29_130_000})
		d.Event(Event{Step: "b", Kind: Bytes, Item: "sha256:cdef01234567", Current: 1, Total: 1})
		d.Event(Event{Step: "c", Name: "[build 2/3] WORKDIR /src", Kind: Cached})
		d.Event(Event{Step: "d", Name: "[build 3/3] RUN make\n&& make install", Kind: Start})
		d.Event(Event{Step: "d", Kind: Log, Log: []byte("cc -c one.c\n\x1b[31mcc\x1b[0m -c two.c\n 10%\r 20%")})
		pass(1100 * time.Millisecond)
		show(t, s, `
[+] Building 1.1s (2/4)
 => [internal] load build definition from Dockerfile                        0.0s
 => [build 1/3] FROM debian                                                 1.1s
 => => sha256:0123456789ab [========>           ] 12.30MB / 29.13MB         1.1s
 => CACHED [build 2/3] WORKDIR /src                                         0.0s
 => [build 3/3] RUN make && make install                                    1.1s
 => => # cc -c one.c
 => => # cc -c two.c
 => => #  20%
`)
		d.Event(Event{Step: "b", Kind: Done})
		d.Event(Event{Step: "d", Kind: Warning, Log: []byte("something smells")})
		d.Event(Event{Kind: Warning, Log: []byte("everything smells")})
		pass(400 * time.Millisecond)
		d.Event(Event{Step: "d", Kind: Done})
	})
	show(t, s, `
[+] Building 1.5s (4/4) FINISHED
 => [internal] load build definition from Dockerfile                        0.0s
 => [build 1/3] FROM debian                                                 1.1s
 => CACHED [build 2/3] WORKDIR /src                                         0.0s
 => [build 3/3] RUN make && make install                                    1.5s
 => => WARN: something smells
WARN: everything smells
`)
}

func TestTTYFailure(t *testing.T) {
	s := onScreen(t, 60, 24, func(s *screen, d Display) {
		d.Event(Event{Step: "a", Name: "[2/3] RUN make", Kind: Start})
		pass(time.Second)
		for i := range 9 {
			d.Event(Event{Step: "a", Kind: Log, Log: fmt.Appendf(nil, "line %d\n", i+1)})
		}
		d.Event(Event{Step: "a", Kind: Log, Log: []byte("no \x1b[2Jnewline\x1b]0;title\x07")})
		d.Event(Event{Step: "b", Name: "[other 1/1] RUN sleep 9", Kind: Start})
		pass(time.Second)
		d.Event(Event{Step: "a", Kind: Failed, Err: errors.New("exit code: 2")})
		d.Event(Event{Step: "b", Kind: Canceled})
		d.Event(Event{Step: "c", Name: "[3/3] COPY nothing /", Kind: Failed, Err: errors.New("no such file")})
	})
	show(t, s, `
[+] Building 2.0s (3/3) ERROR
 => ERROR [2/3] RUN make                                2.0s
 => CANCELED [other 1/1] RUN sleep 9                    1.0s
 => ERROR [3/3] COPY nothing /                          0.0s
------
 > [2/3] RUN make:
1.000 line 1
1.000 line 2
1.000 line 3
1.000 line 4
1.000 line 5
1.000 line 6
1.000 line 7
1.000 line 8
1.000 line 9
1.000 no newline
------
`)
}

// More happens at once than there are lines: what runs is shown first, then what
// it writes, then what ended last. The picture never scrolls.
func TestTTYLowTerminal(t *testing.T) {
	s := onScreen(t, 40, 8, func(s *screen, d Display) {
		for i := range 9 {
			d.Event(Event{Step: fmt.Sprint(i), Name: fmt.Sprintf("[%d/11] COPY . .", i+1), Kind: Start})
			pass(100 * time.Millisecond)
			d.Event(Event{Step: fmt.Sprint(i), Kind: Done})
		}
		d.Event(Event{Step: "x", Name: "[10/11] RUN x", Kind: Start})
		d.Event(Event{Step: "y", Name: "[11/11] RUN y", Kind: Start})
		d.Event(Event{Step: "y", Kind: Log, Log: []byte("1\n2\n")})
		pass(100 * time.Millisecond)
		show(t, s, `
[+] Building 1.0s (9/11)
 => [8/11] COPY . .                 0.1s
 => [9/11] COPY . .                 0.1s
 => [10/11] RUN x                   0.1s
 => [11/11] RUN y                   0.1s
 => => # 1
 => => # 2
`)
		d.Event(Event{Step: "x", Kind: Log, Log: []byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n")})
		pass(100 * time.Millisecond)
		show(t, s, `
[+] Building 1.1s (9/11)
 => [10/11] RUN x                   0.2s
 => => # 6
 => => # 7
 => => # 8
 => => # 9
 => [11/11] RUN y                   0.2s
`)
		if s.top != 0 {
			t.Errorf("the screen scrolled by %d lines", s.top)
		}
	})
	if got := strings.Count(s.text(), "COPY"); got != 9 {
		t.Errorf("%d of 9 finished steps in the last picture:\n%s", got, s.text())
	}
}

func TestTTYNarrow(t *testing.T) {
	for _, tc := range []struct {
		cols int
		want string
	}{
		{20, `
[+] Building 0.1s (…
 => [build 1/2… 0.1s
 => => 12.30MB… 0.1s
 => => 你好,世界
 => [2/2] 复制… 0.1s
 => => # 一二三四五…
`},
		{8, `
[+] Bui…
 => [bu…
 => => …
 => => …
 => [2/…
 => => …
`},
	} {
		onScreen(t, tc.cols, 24, func(s *screen, d Display) {
			d.Event(Event{Step: "a", Name: "[build 1/2] FROM debian", Kind: Start})
			d.Event(Event{Step: "a", Kind: Bytes, Item: "sha256:0123", Current: 12_300_000, Total: 29_130_000})
			d.Event(Event{Step: "a", Kind: Note, Log: []byte("你好,世界")})
			d.Event(Event{Step: "b", Name: "[2/2] 复制文件到目录", Kind: Start})
			d.Event(Event{Step: "b", Kind: Log, Log: []byte("一二三四五六七")})
			pass(100 * time.Millisecond)
			show(t, s, tc.want)
		})
	}
}

// The picture stays one picture when the terminal becomes narrower or wider.
func TestTTYResize(t *testing.T) {
	onScreen(t, 60, 24, func(s *screen, d Display) {
		d.Event(Event{Step: "a", Name: "[1/2] RUN a", Kind: Start})
		d.Event(Event{Step: "b", Name: "[2/2] RUN b", Kind: Start})
		pass(100 * time.Millisecond)
		s.resize(25)
		pass(100 * time.Millisecond)
		show(t, s, `
[+] Building 0.2s (0/2)
 => [1/2] RUN a      0.2s
 => [2/2] RUN b      0.2s
`)
		s.resize(40)
		pass(100 * time.Millisecond)
		show(t, s, `
[+] Building 0.3s (0/2)
 => [1/2] RUN a                     0.3s
 => [2/2] RUN b                     0.3s
`)
	})
}

// However many events there are, frames come at most ten times a second, each in
// one write, and none before anything is known.
func TestTTYRate(t *testing.T) {
	s := onScreen(t, 80, 24, func(s *screen, d Display) {
		pass(time.Second)
		if s.writes != 0 {
			t.Errorf("%d writes before the first event", s.writes)
		}
		for range 1000 {
			d.Event(Event{Step: "a", Name: "[1/1] RUN a", Kind: Log, Log: []byte("x\n")})
			pass(time.Millisecond)
		}
		if s.writes > 10 {
			t.Errorf("%d writes in one second", s.writes)
		}
	})
	if s.writes > 11 {
		t.Errorf("%d writes in all", s.writes)
	}
}

func TestTTYColors(t *testing.T) {
	for _, tc := range []struct {
		env  map[string]string
		want []string
	}{
		{nil, []string{"\x1b[34m => [1/2] COPY", "\x1b[31m => ERROR [2/2] RUN"}},
		{map[string]string{"BUILDKIT_COLORS": "run=light-green:error=255,0,10"}, []string{"\x1b[92m => [1/2] COPY", "\x1b[38;5;196m => ERROR [2/2] RUN"}},
		{map[string]string{"NO_COLOR": "1", "BUILDKIT_COLORS": "run=red"}, []string{"\n => [1/2] COPY", "\n => ERROR [2/2] RUN"}},
	} {
		var out bytes.Buffer
		synctest.Test(t, func(t *testing.T) {
			d, err := New(TTY, &out, Options{
				Getenv: func(k string) string { return tc.env[k] },
				Size:   func() (int, int, error) { return 80, 24, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			d.Event(Event{Step: "a", Name: "[1/2] COPY . .", Kind: Done})
			d.Event(Event{Step: "b", Name: "[2/2] RUN x", Kind: Failed, Err: errors.New("exit code: 1")})
			d.Close()
		})
		for _, want := range tc.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("with %v: no %q in %q", tc.env, want, out.String())
			}
		}
	}
}

func TestCloseTwice(t *testing.T) {
	for _, mode := range []Mode{TTY, Plain, Quiet, RawJSON, None} {
		var out bytes.Buffer
		d, err := New(mode, &out, Options{Size: func() (int, int, error) { return 80, 24, nil }})
		if err != nil {
			t.Fatal(err)
		}
		d.Event(Event{Step: "a", Name: "a", Kind: Failed, Err: errors.New("no")})
		d.Close()
		once := out.String()
		d.Close()
		if out.String() != once {
			t.Errorf("%s: the second Close wrote %q", mode, out.String()[len(once):])
		}
	}
}
