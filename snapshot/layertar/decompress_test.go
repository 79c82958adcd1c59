package layertar_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"lamina/snapshot/layertar"
)

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func TestDecompress(t *testing.T) {
	want := strings.Repeat("content ", 10_000)
	compress := func(open func(io.Writer) (io.WriteCloser, error)) []byte {
		var buf bytes.Buffer
		w, err := open(&buf)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, want)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	gz := compress(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	zst := compress(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	skippable := []byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc")
	bz, err := hex.DecodeString("425a68393141592653591da4c1c2000004dd8000104000100000803261dc9020002287a234d3d2642869a6001dd0c246cb785a9a41226a46abe2ee48a70a1203b4983840")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"plain", []byte(want), want},
		{"nothing", nil, ""},
		{"short", []byte("BZh"), "BZh"},
		{"a name that begins as bzip2 does", []byte("BZh9 is a name"), "BZh9 is a name"},
		{"gzip", gz, want},
		{"gzip, several members", append(bytes.Clone(gz), gz...), want + want},
		{"zstd", zst, want},
		{"zstd, several frames", append(bytes.Clone(zst), zst...), want + want},
		{"zstd after a skippable frame", append(skippable, zst...), want},
		{"xz", compress(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }), want},
		{"bzip2", bz, "bzip2 has no writer in Go\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := layertar.Decompress(bytes.NewReader(tt.bytes))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got %d bytes, %.40q…; want %d", len(got), got, len(tt.want))
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for name, b := range map[string][]byte{"gzip": gz, "zstd": zst} {
		t.Run("truncated "+name, func(t *testing.T) {
			r, err := layertar.Decompress(bytes.NewReader(b[:len(b)-2]))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(r); err == nil {
				t.Error("no error")
			}
		})
	}
}
