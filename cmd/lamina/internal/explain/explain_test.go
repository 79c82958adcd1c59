package explain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/frontend"
)

// causes are those of a report, each with how many steps it made be executed.
func causes(r *Report) []string {
	all := []string{}
	for _, c := range r.Causes {
		all = append(all, fmt.Sprintf("%s [%d]", c.Text, len(c.Executed)))
	}
	return all
}

const app = `ARG VERSION=12
FROM debian:$VERSION AS build
WORKDIR /src
COPY src src
ARG COMMIT=none
ENV REV=r-$COMMIT
RUN make
RUN make test
FROM debian:12
COPY --from=build /src/app /app
COPY docs /docs
RUN install
`

// again is how a second build differs from the first, and why its steps are executed.
type again struct {
	name  string
	first string            // the Dockerfile, if it is not app
	edit  map[string]string // lines of it that become others
	opt   frontend.Options
	world func(*world)
	want  []string
}

func (tc again) file() string {
	if tc.first != "" {
		return tc.first
	}
	return app
}

// edited is the Dockerfile of the second build.
func (tc again) edited(t *testing.T) string {
	var pairs []string
	for old, now := range tc.edit {
		if !strings.Contains(tc.file(), old+"\n") {
			t.Fatalf("%s: there is no line %q", tc.name, old)
		}
		pairs = append(pairs, old+"\n", now)
	}
	return strings.NewReplacer(pairs...).Replace(tc.file())
}

func (tc again) run(t *testing.T) {
	w := newWorld(t)
	r := w.explain(w.build(asked{file: tc.file()}))
	if r.Executed == 0 || len(r.Causes) != 1 || r.Causes[0].Kind != New || len(r.Causes[0].Executed) != r.Executed {
		t.Errorf("at first %d steps are executed: %q", r.Executed, causes(r))
	}
	if r := w.explain(w.build(asked{file: tc.file()})); r.Executed != 0 || len(r.Causes) != 0 || r.Cached == 0 {
		t.Errorf("without a change %d steps are executed: %q", r.Executed, causes(r))
	}
	if tc.world != nil {
		tc.world(w)
	}
	got := w.explain(w.build(asked{file: tc.edited(t), opt: tc.opt}))
	if diff := cmp.Diff(tc.want, causes(got)); diff != "" {
		t.Error(diff)
	}
	for _, x := range got.Steps {
		if len(x.Causes) == 0 {
			t.Errorf("%s has no cause", x.Step)
		}
	}
}

func TestBuild(t *testing.T) {
	for _, tc := range []again{
		// Files.
		{name: "content", world: func(w *world) { w.files["src/a.go"] = "A" },
			want: []string{"COPY src src (line 4): src/a.go changed (content) [6]"}},
		{name: "mode", world: func(w *world) { w.files["src/a.go"] = "100664 a" },
			want: []string{"COPY src src (line 4): src/a.go mode 0644 -> 0664 [6]"}},
		{name: "content and mode", world: func(w *world) { w.files["src/a.go"] = "100664 A" },
			want: []string{"COPY src src (line 4): src/a.go changed (content, mode 0644 -> 0664) [6]"}},
		{name: "type", world: func(w *world) { w.files["src/a.go"] = "120777 a" },
			want: []string{"COPY src src (line 4): src/a.go type file -> link [6]"}},
		{name: "new", world: func(w *world) { w.files["docs/a b\n"] = "n" },
			want: []string{`COPY docs /docs (line 11): new file "docs/a b\n" [2]`}},
		{name: "removed", world: func(w *world) { delete(w.files, "src/b.go") },
			want: []string{"COPY src src (line 4): src/b.go removed [6]"}},
		{name: "two", world: func(w *world) { w.files["src/c.go"], w.files["src/a.go"] = "c", "A" },
			want: []string{"COPY src src (line 4): src/a.go changed (content), and 1 more file [6]"}},
		{name: "of two COPYs", world: func(w *world) { w.files["docs/x.md"], w.files["src/a.go"] = "X", "A" },
			want: []string{"COPY src src (line 4): src/a.go changed (content) [6]", "COPY docs /docs (line 11): docs/x.md changed (content) [2]"}},
		{name: "one that two COPYs read", first: "FROM scratch\nCOPY src/a.go /\nCOPY . /\n", world: func(w *world) { w.files["src/a.go"] = "A" },
			want: []string{"COPY src/a.go / (line 2): src/a.go changed (content) [2]"}},
		{name: "not read", world: func(w *world) { w.files["README"] = "r" }, want: []string{}},
		{name: "no table", world: func(w *world) { clear(w.blobs); w.files["src/a.go"] = "A" },
			want: []string{"COPY src src (line 4): files changed; which ones is not known any more [6]"}},
		{name: "shown by a mount", first: "FROM debian:12\nRUN --mount=target=/c a\nRUN b\n", world: func(w *world) { w.files["src/a.go"] = "A" },
			want: []string{"RUN --mount=target=/c a (line 2): src/a.go changed (content) [2]"}},

		// Variables.
		{name: "a build argument", opt: frontend.Options{BuildArgs: map[string]string{"COMMIT": "abc"}},
			want: []string{`ARG COMMIT changed "none" -> "abc" (line 5), used by RUN at line 7 [5]`}},
		{name: "a default", edit: map[string]string{"ARG COMMIT=none": "ARG COMMIT=some\n"},
			want: []string{`ARG COMMIT changed "none" -> "some" (line 5), used by RUN at line 7 [5]`}},
		{name: "an ENV", edit: map[string]string{"ENV REV=r-$COMMIT": "ENV REV=q\n"},
			want: []string{`ENV REV changed "r-none" -> "q" (line 6), used by RUN at line 7 [5]`}},
		{name: "a new ARG", edit: map[string]string{"RUN make": "ARG NEW=1\nRUN make\n"},
			want: []string{`ARG NEW is new: "1" (line 7), used by RUN at line 8 [5]`}},
		{name: "an ARG less", edit: map[string]string{"ARG COMMIT=none": "", "ENV REV=r-$COMMIT": "ENV REV=r-none\n"},
			want: []string{`ARG COMMIT (was "none") is gone, used by RUN at line 6 [5]`}},
		{name: "an ARG that nothing reads after", first: "FROM scratch\nARG A=1\nCOPY docs /\n", edit: map[string]string{"ARG A=1": "ARG A=2\n"}, want: []string{}},
		{name: "in a name", first: "FROM scratch\nARG D=docs\nCOPY $D /\n", edit: map[string]string{"ARG D=docs": "ARG D=src\n"},
			want: []string{`ARG D changed "docs" -> "src" (line 2), used by COPY at line 3 [1]`}},
		{name: "in a later stage", first: "FROM debian:12 AS a\nARG A=1\nENV E=$A\nFROM a\nRUN x\n", edit: map[string]string{"ARG A=1": "ARG A=2\n"},
			want: []string{`ARG A changed "1" -> "2" (line 2), used by RUN at line 5 [1]`}},
		{name: "a proxy", opt: frontend.Options{BuildArgs: map[string]string{"HTTP_PROXY": "p"}}, want: []string{}},

		// Bases.
		{name: "a base that moved", world: func(w *world) { w.images["debian:12"] = "point release" },
			want: []string{"base debian:12 moved " + baseDigest("bookworm") + " -> " + baseDigest("point release") + " [7]"}},
		{name: "an ARG in FROM", opt: frontend.Options{BuildArgs: map[string]string{"VERSION": "13"}},
			want: []string{`ARG VERSION changed "12" -> "13" (line 1), used by FROM at line 2 [7]`}},
		{name: "another base", first: "FROM debian:12\nRUN a\n", edit: map[string]string{"FROM debian:12": "FROM debian:13\n"},
			want: []string{"base changed debian:12 -> debian:13 (line 1) [1]"}},
		{name: "another platform", opt: frontend.Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}},
			want: []string{"platform changed linux/amd64 -> linux/arm64 [7]"}},

		// Sources from elsewhere.
		{name: "a URL", first: "FROM scratch\nADD http://example.com/f /\nWORKDIR /w\n", world: func(w *world) { w.remote["http://example.com/f"] = "F" },
			want: []string{"content of http://example.com/f changed (line 2) [2]"}},
		{name: "a commit", first: "FROM scratch\nADD https://example.com/r.git#main /\n", world: func(w *world) { w.remote["https://example.com/r.git"] = "2222" },
			want: []string{"commit of https://example.com/r.git#main moved (line 2) [1]"}},
		{name: "a here-document", first: "FROM scratch\nCOPY <<EOF /f\none\nEOF\n", edit: map[string]string{"one": "two\n"},
			want: []string{"COPY <<EOF /f (line 2): here-document EOF changed [1]"}},

		// Instructions.
		{name: "text", edit: map[string]string{"RUN make test": "RUN make check\n"},
			want: []string{"RUN make check (line 8): step text changed: RUN make test -> RUN make check [4]"}},
		{name: "two texts", edit: map[string]string{"RUN make": "RUN make -j\n", "RUN install": "RUN install -v\n"},
			want: []string{
				"RUN make -j (line 7): step text changed: RUN make -> RUN make -j [5]",
				"RUN install -v (line 12): step text changed: RUN install -> RUN install -v [1]",
			}},
		{name: "a new one", edit: map[string]string{"RUN make": "RUN lint\nRUN make\n"},
			want: []string{"RUN lint (line 7): never built here [6]"}},
		{name: "a new one at the end", edit: map[string]string{"RUN install": "RUN install\nRUN more\nRUN still more\n"},
			want: []string{"RUN more (line 13): never built here [2]"}},
		{name: "removed", edit: map[string]string{"RUN make": ""},
			want: []string{"RUN make test (line 7): RUN make before it was removed [4]"}},
		{name: "reordered", edit: map[string]string{"RUN make": "", "RUN make test": "RUN make test\nRUN make\n"},
			want: []string{"RUN make test (line 7): reordered: RUN make was before it, and comes after it now [5]"}},
		{name: "a comment", edit: map[string]string{"RUN make": "# comment\nRUN make\n"}, want: []string{}},
		{name: "a stage's name", first: "FROM debian:12 AS a\nRUN a\nFROM scratch\nCOPY --from=a /x /\n",
			edit: map[string]string{"FROM debian:12 AS a": "FROM debian:12 AS b\n", "COPY --from=a /x /": "COPY --from=b /x /\n"}, want: []string{}},

		// Options.
		{name: "the directory", edit: map[string]string{"WORKDIR /src": "WORKDIR /work\n"},
			want: []string{"WORKDIR changed /src -> /work [7]"}},
		{name: "nested directories", first: "FROM debian:12\nWORKDIR /a\nWORKDIR b\nCOPY docs .\nRUN x\n", edit: map[string]string{"WORKDIR /a": "WORKDIR /c\n"},
			want: []string{"WORKDIR changed /a -> /c [4]"}},
		{name: "the user", edit: map[string]string{"RUN make": "USER 7\nRUN make\n"},
			want: []string{"USER changed none -> 7 [5]"}},
		{name: "the shell", edit: map[string]string{"RUN make": "SHELL [\"/bin/bash\",\"-c\"]\nRUN make\n"},
			want: []string{"SHELL changed /bin/sh -c -> /bin/bash -c [5]"}},
		{name: "--network", opt: frontend.Options{Network: "none"}, want: []string{"--network changed default -> none [5]"}},
		{name: "a step's network", edit: map[string]string{"RUN install": "RUN --network=none install\n"},
			want: []string{"RUN --network=none install (line 12): --network changed default -> none [1]"}},
		{name: "--ulimit", opt: frontend.Options{Ulimits: []string{"nofile=1:2"}}, want: []string{"--ulimit changed none -> nofile=1:2 [5]"}},
		{name: "--add-host", opt: frontend.Options{Hosts: []string{"a=1.2.3.4"}}, want: []string{"--add-host changed none -> a=1.2.3.4 [5]"}},
		{name: "--shm-size", opt: frontend.Options{ShmSize: 1 << 20}, want: []string{"--shm-size changed none -> 1048576 [5]"}},
		{name: "--chown", edit: map[string]string{"COPY docs /docs": "COPY --chown=1:1 docs /docs\n"},
			want: []string{"COPY --chown=1:1 docs /docs (line 11): --chown changed none -> 1:1 [2]"}},
		{name: "--chmod", edit: map[string]string{"COPY docs /docs": "COPY --chmod=700 docs /docs\n"},
			want: []string{"COPY --chmod=700 docs /docs (line 11): --chmod changed none -> 700 [2]"}},
		{name: "--exclude", edit: map[string]string{"COPY src src": "COPY --exclude=src/b.go src src\n"},
			want: []string{"COPY --exclude=src/b.go src src (line 4): --exclude changed none -> src/b.go [6]"}},
		{name: "--link", edit: map[string]string{"COPY docs /docs": "COPY --link docs /docs\n"},
			want: []string{"COPY --link docs /docs (line 11): --link changed false -> true [2]"}},
		{name: "the destination", edit: map[string]string{"COPY docs /docs": "COPY docs /documents\n"},
			want: []string{"COPY docs /documents (line 11): step text changed: COPY docs /docs -> COPY docs /documents [2]"}},

		// Mounts.
		{name: "a new secret", edit: map[string]string{"RUN install": "RUN --mount=type=secret,id=a install\n"},
			want: []string{"RUN --mount=type=secret,id=a install (line 12): secret /run/secrets/a is new (type=secret,id=a) [1]"}},
		{name: "another secret", first: "FROM debian:12\nRUN --mount=type=secret,id=a x\n",
			edit: map[string]string{"RUN --mount=type=secret,id=a x": "RUN --mount=type=secret,id=b x\n"},
			want: []string{"RUN --mount=type=secret,id=b x (line 2): secret /run/secrets/b changed type=secret,id=a -> type=secret,id=b [1]"}},
		{name: "another cache", first: "FROM debian:12\nRUN --mount=type=cache,target=/c x\n",
			edit: map[string]string{"RUN --mount=type=cache,target=/c x": "RUN --mount=type=cache,target=/c,sharing=locked x\n"},
			want: []string{"RUN --mount=type=cache,target=/c,sharing=locked x (line 2): mount /c changed type=cache,id=/c -> type=cache,id=/c,sharing=locked [1]"}},
		{name: "no mount any more", first: "FROM debian:12\nRUN --mount=type=tmpfs,target=/t x\n",
			edit: map[string]string{"RUN --mount=type=tmpfs,target=/t x": "RUN x\n"},
			want: []string{"RUN x (line 2): mount /t was removed (type=tmpfs) [1]"}},

		// Records.
		{name: "--no-cache", opt: frontend.Options{NoCache: true}, want: []string{"--no-cache was given [7]"}},
		{name: "--no-cache-filter", opt: frontend.Options{NoCacheFilter: []string{"build"}}, want: []string{"--no-cache-filter=build was given [7]"}},
		{name: "gone", world: func(w *world) { clear(w.index) }, want: []string{"built before, but its record is gone [7]"}},
		{name: "lost", world: func(w *world) { w.lose("RUN install") },
			want: []string{"RUN install (line 12): remembered, but its layer is gone [1]"}},
		{name: "evicted", world: func(w *world) {
			w.evict(w.clock.Add(time.Hour))
			w.clock = w.clock.Add(48 * time.Hour)
		}, want: []string{"record evicted 2 days ago by the size cap [7]"}},
		{name: "evicted, and made again since", world: func(w *world) {
			w.evict(w.clock.Add(-time.Hour))
		}, want: []string{"built before, but its record is gone [7]"}},
	} {
		t.Run(tc.name, tc.run)
	}
}

func baseDigest(content string) string {
	return short(frontendDigest(content))
}
