package layer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func deviations(t *testing.T, p *layer.Pool, times bool, first, second snapshot.ID) []string {
	t.Helper()
	var got []string
	err := p.Deviations(t.Context(), []snapshot.ID{"base"}, first, second, times, func(d layer.Difference) error {
		got = append(got, d.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDeviations(t *testing.T) {
	p := open(t, t.TempDir())
	at := func(name, data string, e snapshot.Entry) step {
		return func(d *layer.Draft) error { return d.File(name, e, strings.NewReader(data)) }
	}
	attr := func(name string, e snapshot.Entry, value string) step {
		return func(d *layer.Draft) error {
			return d.SetAttrs(name, e, map[string]string{"security.capability": value})
		}
	}
	later := snapshot.Entry{Mode: 0o644, ModTime: now.Add(time.Second)}
	commit(t, p, "base", mkdir("etc", 0o755), file("etc/a", "a"), file("etc/b", "b"), mkdir("var", 0o755), mkdir("var/log", 0o755), file("var/log/x", "x"))
	long := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		about         string
		first, second []step
		want          []string
		timed         []string // with times, what else
	}{
		{"nothing", []step{mkdir("d", 0o755), file("d/f", "1")}, []step{mkdir("d", 0o755), file("d/f", "1")}, nil, nil},
		{"in other words", []step{mkdir("etc", 0o755), file("etc/a", "a"), file("new", "")}, []step{implied("etc"), file("new", ""), whiteout("none")}, nil, nil},
		{"what is hidden at once or one by one", []step{mkdir("var", 0o755), opaque("var"), mkdir("var/log", 0o755)},
			[]step{implied("var"), implied("var/log"), whiteout("var/log/x")}, nil, nil},
		{"what is hidden", []step{mkdir("etc", 0o755), opaque("etc"), file("etc/a", "a")}, []step{mkdir("etc", 0o755)}, []string{"etc/b: is new"}, nil},
		{"content", []step{file("f", "abc"), file("l", long+"a")}, []step{file("f", "abd"), file("l", long+"b")},
			[]string{"f: has other content, from byte 2 on", "l: has other content, from byte 100000 on"}, nil},
		{"size", []step{file("f", "abc")}, []step{file("f", "ab")}, []string{"f: has 2 bytes, and had 3"}, nil},
		{"mode", []step{mkdir("d", 0o755), file("f", "")}, []step{mkdir("d", 0o700), at("f", "", snapshot.Entry{Mode: 0o4644, ModTime: now})},
			[]string{"d: has mode 0700, and had 0755", "f: has mode 4644, and had 0644"}, nil},
		{"owner", []step{file("f", "")}, []step{at("f", "", snapshot.Entry{Mode: 0o644, UID: 7, GID: 8, ModTime: now})},
			[]string{"f: belongs to 7:8, and belonged to 0:0"}, nil},
		{"kind", []step{file("f", ""), mkdir("d", 0o755), file("d/x", "")}, []step{symlink("f", "g"), file("d", "")},
			[]string{"d: is a file, and was a directory", "f: is a link, and was a file"}, nil},
		{"link", []step{symlink("l", "a")}, []step{symlink("l", "b")}, []string{"l: leads to b, and led to a"}, nil},
		{"missing and new", []step{mkdir("d", 0o755), file("d/x", "")}, []step{mkdir("e", 0o755), file("e/x", ""), implied("etc"), whiteout("etc/a")},
			[]string{"d: is missing", "e: is new", "etc/a: is missing"}, nil},
		{"attributes", []step{file("f", ""), attr("f", mode(0o644), "a")}, []step{file("f", ""), attr("f", mode(0o644), "b")},
			[]string{"f: has another attribute security.capability"}, nil},
		{"times", []step{file("f", "1"), mkdir("d", 0o755)}, []step{at("f", "1", later), func(d *layer.Draft) error { return d.Mkdir("d", snapshot.Entry{Mode: 0o755, ModTime: later.ModTime}) }},
			nil, []string{"f: is from 2023-11-14 22:13:21.123456789, and was from 2023-11-14 22:13:20.123456789"}},
	} {
		t.Run(test.about, func(t *testing.T) {
			first, second := snapshot.ID("1-"+strings.ReplaceAll(test.about, " ", "-")), snapshot.ID("2-"+strings.ReplaceAll(test.about, " ", "-"))
			commit(t, p, first, test.first...)
			commit(t, p, second, test.second...)
			if diff := cmp.Diff(test.want, deviations(t, p, false, first, second)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(slices.Concat(test.want, test.timed), deviations(t, p, true, first, second)); diff != "" {
				t.Error(diff)
			}
			if got := deviations(t, p, true, first, first); got != nil {
				t.Errorf("a layer differs from itself: %q", got)
			}
		})
	}
}

func TestDeviationsEnd(t *testing.T) {
	p := open(t, t.TempDir())
	commit(t, p, "base")
	commit(t, p, "1", file("a", "1"), file("b", "1"))
	commit(t, p, "2", file("a", "2"), file("b", "2"))
	stop := errors.New("enough")
	n := 0
	err := p.Deviations(t.Context(), []snapshot.ID{"base"}, "1", "2", false, func(layer.Difference) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("it ended with %v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Deviations(ctx, nil, "1", "2", false, func(layer.Difference) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}
