package fileset

import (
	"bytes"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func writeTable(t testing.TB, sums []Sum) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewTableWriter(&b)
	must(t, err)
	for _, s := range sums {
		must(t, w.Add(s))
	}
	must(t, w.Close())
	return b.Bytes()
}

func collect(seq iter.Seq2[Sum, error]) (sums []Sum, err error) {
	for s, err := range seq {
		if err != nil {
			return sums, err
		}
		sums = append(sums, s)
	}
	return sums, nil
}

func TestTable(t *testing.T) {
	sums := []Sum{
		{Name: "plain", Mode: 0o100644, Digest: digest.FromString("one")},
		{Name: "a dir", Mode: 0o041777, UID: 1, GID: 1 << 30},
		{Name: "odd \"name\"\n\xff\u2028é", Mode: 0o120777, Digest: digest.FromString("two")},
		{Name: "plain", Mode: 0o100644, Digest: digest.FromString("again")},
	}
	data := writeTable(t, sums)
	got, err := collect(ReadTable(bytes.NewReader(data)))
	must(t, err)
	if diff := cmp.Diff(sums, got); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if !bytes.Equal(data, writeTable(t, sums)) {
		t.Error("equal sums make different bytes")
	}
	for range ReadTable(bytes.NewReader(data)) {
		break // must not panic
	}
	if got, err := collect(ReadTable(bytes.NewReader(writeTable(t, nil)))); err != nil || got != nil {
		t.Errorf("an empty table has %v, %v", got, err)
	}
}

// TestTablePinned holds the form of tables, which outlive the lamina that wrote them.
func TestTablePinned(t *testing.T) {
	data := writeTable(t, []Sum{
		{Name: "src/main.go", Mode: 0o100644, UID: 5, GID: 6, Digest: digest.FromString("")},
		{Name: "src", Mode: 0o040755},
	})
	z, err := zstd.NewReader(nil)
	must(t, err)
	defer z.Close()
	text, err := z.DecodeAll(data, nil)
	must(t, err)
	want := `100644 5:6 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 "src/main.go"
40755 0:0 - "src"
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

func TestTableDamaged(t *testing.T) {
	good := writeTable(t, []Sum{{Name: "a", Mode: 0o100644}})
	text := func(s string) []byte {
		z, err := zstd.NewWriter(nil)
		must(t, err)
		return z.EncodeAll([]byte(s), nil)
	}
	for name, data := range map[string][]byte{
		"truncated": good[:len(good)-1],
		"text":      []byte("100644 0:0 - \"a\"\n"),
		"no end":    text(`100644 0:0 - "a"`),
		"fields":    text("100644 0:0 -\n"),
		"mode":      text("1006448 0:0 - \"a\"\n"),
		"owner":     text("100644 0 - \"a\"\n"),
		"digest":    text("100644 0:0 sha256:12 \"a\"\n"),
		"name":      text("100644 0:0 - a\n"),
		"a bomb":    text("100644 0:0 - \"" + strings.Repeat("a", 64<<20) + "\"\n"),
	} {
		if _, err := collect(ReadTable(bytes.NewReader(data))); err == nil || !strings.HasPrefix(err.Error(), "read table: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTableCostsLittle holds the memory for a table of any length.
func TestTableCostsLittle(t *testing.T) {
	var b bytes.Buffer
	w, err := NewTableWriter(&b)
	must(t, err)
	sum := Sum{Name: "some/path/to/a/file", Mode: 0o100644, Digest: digest.FromString("x")}
	must(t, w.Add(sum))
	if n := testing.AllocsPerRun(10_000, func() { must(t, w.Add(sum)) }); n >= 1 {
		t.Errorf("a line makes %v allocations", n)
	}
	must(t, w.Close())
}

func FuzzTable(f *testing.F) {
	f.Add("name", uint32(0o100644), 0, 0, true)
	f.Add("", uint32(0), -1, 1<<40, false)
	f.Fuzz(func(t *testing.T, name string, mode uint32, uid, gid int, hasDigest bool) {
		s := Sum{Name: name, Mode: mode, UID: uid, GID: gid}
		if hasDigest {
			s.Digest = digest.FromString(name)
		}
		got, err := collect(ReadTable(bytes.NewReader(writeTable(t, []Sum{s, s}))))
		if diff := cmp.Diff([]Sum{s, s}, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

// TestTableOfMany is longer than what the compressor sees at once.
func TestTableOfMany(t *testing.T) {
	sums := make([]Sum, 20_000)
	for i := range sums {
		name := fmt.Sprintf("dir%d/file%d", i/50, i)
		sums[i] = Sum{Name: name, Mode: 0o100644, Digest: digest.FromString(name)}
	}
	got, err := collect(ReadTable(bytes.NewReader(writeTable(t, sums))))
	must(t, err)
	if diff := cmp.Diff(sums, got); diff != "" {
		t.Error(diff)
	}
}
