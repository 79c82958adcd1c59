package explain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// editor edits a Dockerfile, and the world around it, at random.
type editor struct {
	*rand.Rand
	w     *world
	lines []string
}

// instructions are what it is made of.
func instructions() []string {
	return []string{
		"WORKDIR /a", "WORKDIR b", "COPY src src", "COPY docs /docs", "COPY --link docs /linked", "COPY . /all", "ARG A=1", "ARG B=$A",
		"ENV C=$A", "ENV D=d", "RUN one", "RUN two", "RUN --mount=target=/c three", "RUN --mount=type=cache,target=/c four", "USER 1",
		"ADD http://example.com/f /f", "COPY --from=debian:13 /x /x", "RUN --network=none five", "COPY --chown=1:1 src/a.go /owned",
		"COPY --from=base /y /y", "RUN --mount=type=bind,from=base,target=/b six",
	}
}

func newEditor(t *testing.T, seed uint64) *editor {
	e := &editor{Rand: rand.New(rand.NewPCG(seed, 0)), w: newWorld(t)}
	e.lines = instructions()
	e.Shuffle(len(e.lines), func(i, j int) { e.lines[i], e.lines[j] = e.lines[j], e.lines[i] })
	e.lines = e.lines[:1+e.IntN(8)]
	return e
}

func (e *editor) file() string {
	return "FROM debian:12 AS base\nRUN base\nFROM base\n" + strings.Join(e.lines, "\n") + "\n"
}

// edit changes one thing, and says which sort of cause that is if it is not an
// instruction.
func (e *editor) edit() Kind {
	n := len(e.lines)
	switch e.IntN(6) {
	case 0:
		all := instructions()
		if line := all[e.IntN(len(all))]; !slices.Contains(e.lines, line) {
			e.lines = slices.Insert(e.lines, e.IntN(n+1), line)
		}
	case 1:
		if i := e.IntN(n); n > 1 {
			e.lines = slices.Delete(e.lines, i, i+1)
		}
	case 2:
		if i := e.IntN(n); i > 0 {
			e.lines[i], e.lines[i-1] = e.lines[i-1], e.lines[i]
		}
	case 3:
		e.w.files["src/a.go"] = fmt.Sprint(e.IntN(3))
		return Files
	case 4:
		e.w.images["debian:12"] = fmt.Sprint(e.IntN(3))
		return Base
	case 5:
		e.w.remote["http://example.com/f"] = fmt.Sprint(e.IntN(3))
		return URL
	}
	return ""
}

// One edit has one cause, however many steps are executed because of it.
func TestOneEditOneCause(t *testing.T) {
	for seed := range uint64(150) {
		e := newEditor(t, seed)
		first := e.file()
		e.w.build(asked{file: first})
		kind := e.edit()
		r := e.w.explain(e.w.build(asked{file: e.file()}))
		if len(r.Causes) > 1 || len(r.Causes) == 1 && kind != "" && r.Causes[0].Kind != kind {
			t.Errorf("%s: from\n%sto\n%s%q", kind, first, e.file(), causes(r))
		}
	}
}

// Whatever is edited, each executed step has a cause that says something, and each
// cause made a step be executed.
func TestEveryStepHasACause(t *testing.T) {
	for seed := range uint64(60) {
		e := newEditor(t, seed)
		for range 8 {
			r := e.w.explain(e.w.build(asked{file: e.file()}))
			for _, x := range r.Steps {
				if len(x.Causes) == 0 {
					t.Errorf("%s has no cause in\n%s", x.Step, e.file())
				}
			}
			for _, c := range r.Causes {
				if c.Kind == Unknown || c.Kind == Parent || len(c.Executed) == 0 {
					t.Errorf("%q [%d] in\n%s", c.Text, len(c.Executed), e.file())
				}
			}
			e.edit()
			e.edit()
		}
	}
}
