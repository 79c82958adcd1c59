package frontend

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/solver"
)

// shown is variables as "ARG V=1 (line 2, from U)".
func shown(uses []solver.Variable) string {
	var all []string
	for _, x := range uses {
		kind, from := "ENV", ""
		if x.Arg {
			kind = "ARG"
		}
		if len(x.From) > 0 {
			from = " from " + strings.Join(x.From, " and ")
		}
		all = append(all, fmt.Sprintf("%s %s=%s (%d%s)", kind, x.Name, x.Value, x.Line, from))
	}
	return strings.Join(all, ", ")
}

func TestUses(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"an argument reaches every RUN after it", "FROM debian\nRUN a\nARG A=1\nRUN b", "; ARG A=1 (3)"},
		{"a COPY sees what it mentions", "FROM debian\nARG A=1\nARG B=x\nCOPY $B /", "ARG B=x (3)"},
		{"given", "FROM debian\nARG GIVEN=1\nRUN a", "ARG GIVEN=yes (2)"},
		{"without a value", "FROM debian\nARG A\nRUN a", ""},
		{"inherited", "ARG A=1\nFROM debian\nARG A\nRUN a", "ARG A=1 (1)"},
		{"from another before FROM", "ARG A=1\nARG B=$A-b\nFROM debian\nARG B\nRUN a", "ARG B=1-b (2 from A), ARG A=1 (1)"},
		{"arguments from each other", "ARG A=1\nARG B=$A\nARG A=$B\nFROM debian\nARG A\nRUN a", "ARG A=1 (3 from B), ARG B=1 (2 from A)"},
		{"an ENV from an ARG", "FROM debian\nARG A=1\nENV E=$A\nENV F=$E\nRUN a", "ARG A=1 (2), ENV E=1 (3 from A), ENV F=1 (4 from A)"},
		{"of the same name", "FROM debian\nARG A=1\nENV A=v$A\nRUN a", "ENV A=v1 (3 from A), ARG A=1 (2)"},
		{"set again", "FROM debian\nARG A=1\nENV E=$A\nENV E=2\nCOPY $E /", "ENV E=2 (4)"},
		{"in a later stage", "FROM debian AS a\nARG A=1\nENV E=$A\nFROM a\nRUN a", "ARG A=1 (2), ENV E=1 (3 from A)"},
		{"in a working directory", "FROM debian\nENV D=/d\nWORKDIR $D", "ENV D=/d (2)"},
		{"in a mount", "FROM debian\nARG A=c\nRUN --mount=type=cache,target=/$A a", "ARG A=c (2)"},
		{"predefined", "FROM debian\nARG TARGETARCH\nCOPY $TARGETARCH /", "ARG TARGETARCH=amd64 (0)"},
		{"proxies are not told of", "FROM debian\nRUN a", ""},
		{"the last argument of a name", "FROM debian\nARG A=1\nRUN a\nARG A=2\nRUN b", "ARG A=1 (2); ARG A=2 (4)"},
	} {
		file, err := Parse("Dockerfile", []byte(tc.file+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		platform, err := ParsePlatform("linux/amd64")
		if err != nil {
			t.Fatal(err)
		}
		build, err := Lower(context.Background(), file, images{"debian": nil}, Options{
			BuildPlatform: platform, BuildArgs: map[string]string{"GIVEN": "yes", "HTTP_PROXY": "secret"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range build.Graph.Nodes {
			switch n.Op.(type) {
			case solver.Run, solver.Copy, solver.Mkdir:
				got = append(got, shown(n.Uses))
			}
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, "; ")); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestUsesOfFrom(t *testing.T) {
	file, err := Parse("Dockerfile", []byte("ARG V=12\nARG REF=debian:$V\nFROM --platform=$BUILDPLATFORM $REF\n"))
	if err != nil {
		t.Fatal(err)
	}
	platform, err := ParsePlatform("linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	build, err := Lower(context.Background(), file, images{"debian:12": nil}, Options{BuildPlatform: platform})
	if err != nil {
		t.Fatal(err)
	}
	want := "ARG BUILDPLATFORM=linux/amd64 (0), ARG V=12 (1), ARG REF=debian:12 (2 from V)"
	if diff := cmp.Diff(want, shown(build.Graph.Nodes[0].Uses)); diff != "" {
		t.Error(diff)
	}
}
