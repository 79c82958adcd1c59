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

// plainly runs a build in virtual time and compares what it wrote.
func plainly(t *testing.T, env map[string]string, build func(Display), want string) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Plain, &out, Options{Getenv: func(k string) string { return env[k] }})
		if err != nil {
			t.Fatal(err)
		}
		build(d)
		d.Close()
	})
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Errorf("wrong output (-want +got):\n%s", diff)
	}
}

func log(d Display, step, text string) { d.Event(Event{Step: step, Kind: Log, Log: []byte(text)}) }

func TestPlainWholeBuild(t *testing.T) {
	plainly(t, nil, func(d Display) {
		d.Event(Event{Step: "a", Name: "[internal] load build definition from Dockerfile", Kind: Start})
		d.Event(Event{Step: "a", Kind: Done})
		d.Event(Event{Step: "b", Name: "[build 1/3] FROM debian", Kind: Start})
		for i := range int64(101) {
			d.Event(Event{Step: "b", Kind: Bytes, Item: "sha256:0123", Current: i * 300_000, Total: 30_000_000})
			pass(4 * time.Millisecond)
			if i == 20 {
				pass(5 * time.Second)
			}
			if i == 50 {
				d.Event(Event{Step: "b", Kind: Note, Log: []byte("retrying sha256:0123")})
			}
		}
		d.Event(Event{Step: "b", Kind: Done})
		d.Event(Event{Step: "c", Name: "[build 2/3] WORKDIR /src", Kind: Cached})
		d.Event(Event{Step: "d", Name: "[build 3/3] RUN make\n&& make install", Kind: Start})
		pass(412 * time.Millisecond)
		log(d, "d", "one\ntw")
		log(d, "d", "o\r\n\n")
		pass(12 * time.Second)
		log(d, "d", "three\n")
		d.Event(Event{Step: "d", Kind: Warning, Log: []byte("something smells")})
		pass(100 * time.Second)
		log(d, "d", "last, without newline")
		d.Event(Event{Step: "d", Kind: Done})
	}, `
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#2 [build 1/3] FROM debian
#2 sha256:0123 0B / 30.00MB
#2 sha256:0123 1.50MB / 30.00MB 0.0s
#2 sha256:0123 3.00MB / 30.00MB 0.0s
#2 sha256:0123 4.50MB / 30.00MB 0.1s
#2 sha256:0123 6.00MB / 30.00MB 0.1s
#2 sha256:0123 6.30MB / 30.00MB 5.1s
#2 sha256:0123 7.80MB / 30.00MB 5.1s
#2 sha256:0123 9.30MB / 30.00MB 5.1s
#2 sha256:0123 10.80MB / 30.00MB 5.1s
#2 sha256:0123 12.30MB / 30.00MB 5.2s
#2 sha256:0123 13.80MB / 30.00MB 5.2s
#2 retrying sha256:0123
#2 sha256:0123 15.30MB / 30.00MB 5.2s
#2 sha256:0123 16.80MB / 30.00MB 5.2s
#2 sha256:0123 18.30MB / 30.00MB 5.2s
#2 sha256:0123 19.80MB / 30.00MB 5.3s
#2 sha256:0123 21.30MB / 30.00MB 5.3s
#2 sha256:0123 22.80MB / 30.00MB 5.3s
#2 sha256:0123 24.30MB / 30.00MB 5.3s
#2 sha256:0123 25.80MB / 30.00MB 5.3s
#2 sha256:0123 27.30MB / 30.00MB 5.4s
#2 sha256:0123 28.80MB / 30.00MB 5.4s
#2 sha256:0123 30.00MB / 30.00MB 5.4s done
#2 DONE 5.4s

#3 [build 2/3] WORKDIR /src
#3 CACHED

#4 [build 3/3] RUN make && make install
#4 0.412 one
`+"#4 0.412 two\r\n#4 0.412 \n"+`#4 12.41 three
#4 WARN: something smells
#4 112.4 last, without newline
#4 DONE 112.4s
`)
}

// A step's lines are never cut or mixed with another's. The one that is writing
// goes on; the others follow when it ends, or when they have waited long enough.
func TestPlainInterleaving(t *testing.T) {
	plainly(t, nil, func(d Display) {
		d.Event(Event{Step: "a", Name: "A", Kind: Start})
		d.Event(Event{Step: "b", Name: "B", Kind: Start})
		d.Event(Event{Step: "c", Name: "C", Kind: Start})
		log(d, "a", "a1\na")
		log(d, "b", "b1\nb")
		log(d, "a", "2\n")
		log(d, "b", "2\n")
		d.Event(Event{Step: "c", Kind: Done})
		pass(time.Second)
		log(d, "a", "a3\n")
		pass(2 * time.Second)
		log(d, "a", "a4\n")
		pass(1500 * time.Millisecond)
		d.Event(Event{Step: "a", Kind: Done})
		log(d, "b", "b3\n")
		d.Event(Event{Step: "b", Kind: Canceled})
	}, `
#1 A
#1 0.000 a1
#1 0.000 a2
#1 ...

#2 C
#2 DONE 0.0s

#3 B
#3 0.000 b1
#3 0.000 b2
#3 ...

#1 A
#1 1.000 a3
#1 3.000 a4
#1 DONE 4.5s

#3 B
#3 4.500 b3
#3 CANCELED
`)
}

// A question without a newline is shown, and its line goes on where it is if
// nothing else was written meanwhile.
func TestPlainPartialLine(t *testing.T) {
	plainly(t, nil, func(d Display) {
		d.Event(Event{Step: "a", Name: "A", Kind: Start})
		log(d, "a", "Continue? [Y/n] ")
		pass(3 * time.Second)
		log(d, "a", "y\ngoing on")
		pass(3 * time.Second)
		d.Event(Event{Step: "b", Name: "B", Kind: Cached})
		d.Event(Event{Kind: Warning, Log: []byte("beware")})
		log(d, "a", " and on\n")
		d.Event(Event{Step: "a", Kind: Failed, Err: errors.New("exit code: 3")})
	}, `
#1 A
#1 0.000 Continue? [Y/n] y
#1 3.000 going on
#1 ...

#2 B
#2 CACHED
WARN: beware

#1 A
#1 6.000  and on
#1 ERROR: exit code: 3
------
 > A:
0.000 Continue? [Y/n] y
3.000 going on and on
------
`)
}

// Whatever the length, output arrives byte by byte; only what is repeated at the
// end is bounded.
func TestPlainNeverClips(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	var want strings.Builder
	want.WriteString("#1 A\n#1 0.000 " + long + "\n")
	for i := range 30_000 {
		fmt.Fprintf(&want, "#1 0.000 line %d\n", i)
	}
	want.WriteString("#1 ERROR: exit code: 1\n------\n > A:\n")
	for i := 30_000 - plainTail; i < 30_000; i++ {
		fmt.Fprintf(&want, "0.000 line %d\n", i)
	}
	want.WriteString("------\n")
	plainly(t, nil, func(d Display) {
		d.Event(Event{Step: "a", Name: "A", Kind: Start})
		for part := long; part != ""; part = part[10_000:] {
			log(d, "a", part[:10_000])
		}
		log(d, "a", "\n")
		for i := range 30_000 {
			log(d, "a", fmt.Sprintf("line %d\n", i))
		}
		d.Event(Event{Step: "a", Kind: Failed, Err: errors.New("exit code: 1")})
	}, want.String())
}

func TestPlainShortNames(t *testing.T) {
	name := "[build 3/7] RUN " + strings.Repeat("0123456789", 10)
	started := func(d Display) { d.Event(Event{Step: "a", Name: name, Kind: Start}) }
	plainly(t, nil, started, "#1 "+name+"\n")
	plainly(t, map[string]string{"PROGRESS_NO_TRUNC": "0"}, started, "#1 "+name[:72]+"...\n")
}
