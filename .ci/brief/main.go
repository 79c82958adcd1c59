// Brief reads "go test -json" and prints what one wants to read of it: go test's
// own line for each package, what failing tests said, tables (lines that begin
// with "|"), which tests were skipped for which reason, and how many there were.
//
//	go test -json ./... | brief [-allow REGEXP]
//
// It fails if a test fails, or is skipped for a reason that is not allowed.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// event is what test2json writes; see "go doc test2json".
type event struct {
	Action, Package, Test, Output, ImportPath string
}

func main() {
	allow := flag.String("allow", "", "reasons for which a test may be skipped")
	flag.Parse()
	if err := brief(os.Stdin, os.Stdout, regexp.MustCompile(*allow)); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
}

func brief(r io.Reader, w io.Writer, allowed *regexp.Regexp) error {
	said := map[string]string{} // by test: its output so far
	skipped := map[string][]string{}
	passed, failed, skips := 0, 0, 0
	for d := json.NewDecoder(r); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		test := e.Package + " " + e.Test
		switch {
		case e.Action == "build-output", e.Action == "output" && (e.Test == "" || strings.HasPrefix(e.Output, "|")):
			if e.Output != "PASS\n" && !strings.HasSuffix(e.Output, "[no test files]\n") {
				fmt.Fprint(w, e.Output)
			}
		case e.Action == "output":
			said[test] += e.Output
		case e.Action == "fail" && e.Test != "":
			failed++
			fmt.Fprint(w, said[test])
		case e.Action == "fail", e.Action == "build-fail":
			failed++
		case e.Action == "skip" && e.Test != "":
			why := reason(said[test])
			skipped[why] = append(skipped[why], e.Test)
			skips++
		case e.Action == "pass" && e.Test != "":
			passed++
			delete(said, test)
		}
	}
	var refused []string
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(w, "skipped %d, as %s: %s\n", len(skipped[why]), why, skipped[why][0])
		if !allowed.MatchString(why) {
			refused = append(refused, why)
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", passed, failed, skips)
	switch {
	case failed > 0:
		return errors.New("tests failed")
	case len(refused) > 0:
		return fmt.Errorf("tests were skipped that have to run here: %s", strings.Join(refused, "; "))
	case passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// location begins a line of testing.T's log.
var location = regexp.MustCompile(`^\S+\.go:\d+: `)

// reason is the last that a skipped test said.
func reason(output string) string {
	why := "nobody knows why"
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "--- ") && !strings.HasPrefix(line, "=== ") {
			why = line[len(location.FindString(line)):]
		}
	}
	return why
}
