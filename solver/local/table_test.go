package local_test

import (
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/runner"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// records returns every record of the store.
func (b *bench) records() (all []*solver.Record) {
	b.Helper()
	shards, err := os.ReadDir(b.store.Path("index"))
	if err != nil {
		b.Fatal(err)
	}
	for _, shard := range shards {
		names, err := os.ReadDir(b.store.Path("index", shard.Name()))
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range names {
			data, err := b.store.Index().Get(b.Context(), cache.Key("sha256:"+name.Name()))
			if err != nil {
				b.Fatal(err)
			}
			r, err := solver.DecodeRecord(data)
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, r)
		}
	}
	return all
}

// tables returns the tables that the records of operations of this kind refer to.
func (b *bench) tables(kind string) (all [][]fileset.Sum) {
	b.Helper()
	for _, r := range b.records() {
		if r.Kind != kind {
			continue
		}
		for _, in := range r.Inputs {
			for _, d := range in.Read.Parts {
				all = append(all, b.table(d))
			}
		}
	}
	return all
}

func (b *bench) table(d ocispec.Descriptor) (sums []fileset.Sum) {
	b.Helper()
	if d.MediaType != fileset.TableType {
		b.Errorf("a table has the type %q", d.MediaType)
	}
	blob, err := b.store.Open(b.Context(), d)
	if err != nil {
		b.Fatal(err)
	}
	defer blob.Close()
	for s, err := range fileset.ReadTable(blob) {
		if err != nil {
			b.Fatal(err)
		}
		sums = append(sums, s)
	}
	return sums
}

func (b *bench) blobs() int {
	b.Helper()
	all, err := os.ReadDir(b.store.Path("blobs", "sha256"))
	if err != nil {
		b.Fatal(err)
	}
	return len(all)
}

func fileSum(name, data string) fileset.Sum {
	return fileset.Sum{Name: name, Mode: 0o100644, Digest: digest.FromString(data)}
}

// TestCopyListsWhatItCopied: what went into the key can be read later, by name.
func TestCopyListsWhatItCopied(t *testing.T) {
	b := newBench(t)
	b.write("src/a", "one")
	b.write("src/b", "two")
	b.write("other", "three")
	build := func(paths ...string) {
		t.Helper()
		var g solver.Graph
		copyContext(&g, g.Add(solver.Node{Op: solver.Image{}}), "/app/", paths...)
		b.mustSolve(&g)
	}
	build("src", "other")
	want := [][]fileset.Sum{{fileSum("src/a", "one"), fileSum("src/b", "two"), fileSum("other", "three")}}
	if diff := cmp.Diff(want, b.tables("copy")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	before := b.blobs()
	build("src", "other")
	if n := b.blobs(); n != before {
		t.Errorf("a cached build made %d blobs", n-before)
	}
	b.write("src/a", "edited")
	build("src", "other")
	if n := len(b.tables("copy")); n != 2 {
		t.Errorf("%d tables after an edit, want the old one and the new one", n)
	}
}

// TestCopyThatFailsListsNothing copies something onto what is no directory.
func TestCopyThatFailsListsNothing(t *testing.T) {
	b := newBench(t)
	b.write("a", "one")
	var g solver.Graph
	file := copyContext(&g, g.Add(solver.Node{Op: solver.Image{}}), "/a", "a")
	b.mustSolve(&g)
	before := b.blobs()
	copyContext(&g, file, "/a/x/", "a")
	if _, err := b.solve(&g); err == nil {
		t.Fatal("a file was copied into a file")
	}
	if n := b.blobs(); n != before {
		t.Errorf("a copy that failed made %d blobs", n-before)
	}
}

func TestRunListsWhatItsMountsShow(t *testing.T) {
	b := newBench(t)
	b.write("d/f", "one")
	b.write("e/g", "two")
	b.runner.do["use"] = func(runner.Spec, io.Writer) error { return nil }
	var g solver.Graph
	scratch := g.Add(solver.Node{Op: solver.Image{}})
	mount := func(source string) solver.RunMount {
		return solver.RunMount{Type: solver.MountBind, Target: "/m" + source, Input: 1, Source: source, ReadOnly: true}
	}
	run(&g, scratch, solver.Run{Args: []string{"use"}, Mounts: []solver.RunMount{mount("/d"), mount("/e/g")}},
		copyContext(&g, scratch, "/", "."))
	b.mustSolve(&g)
	want := [][]fileset.Sum{{fileSum("d/f", "one")}, {fileSum("e/g", "two")}}
	want = append(want, want...) // under the key over whole inputs, and under the other
	if diff := cmp.Diff(want, b.tables("run")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
