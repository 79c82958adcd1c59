package exporter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// sample returns n bytes that compress somewhat, the same ones for ever.
func sample(n int) []byte {
	var data []byte
	for i := uint64(1); len(data) < n; i++ {
		data = binary.LittleEndian.AppendUint64(data, i*i*0x9e3779b97f4a7c15>>(i%40))
	}
	return data[:n]
}

// TestEncodersAreStable pins the compressed bytes. They change with the level, the
// block size and the libraries' versions, and then every layer of every user gets
// a new digest: such a change must be meant.
func TestEncodersAreStable(t *testing.T) {
	data := sample(2<<20 + 12345)
	for _, tc := range []struct {
		compression Compression
		want        digest.Digest
	}{
		{Gzip, "sha256:5ef9a539ae8954f20d07d07b0e411e6f327c860bfb7fb85814179b795259a4f6"},
		{Zstd, "sha256:c077dd8f1143d44e20c89a15ce8c04a782b6b76ec84e2f0a96f241735292ca90"},
		{Uncompressed, digest.FromBytes(data)},
	} {
		enc, err := newEncoder(tc.compression, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []int{len(data), 1000} { // how much at once must not matter
			hash := digest.SHA256.Digester()
			w, err := enc.writer(hash.Hash())
			if err != nil {
				t.Fatal(err)
			}
			for rest := data; len(rest) > 0; {
				n := min(step, len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := hash.Digest(); got != tc.want {
				t.Errorf("%s by %d: %s, want %s", tc.compression, step, got, tc.want)
			}
		}
	}
}

func TestEncoderForm(t *testing.T) {
	nine, epoch := 9, time.Unix(1000, 5)
	for _, tc := range []struct {
		compression Compression
		level       *int
		epoch       *time.Time
		all         bool
		want        string
	}{
		{"", nil, nil, false, "gzip-5"},
		{Gzip, &nine, &epoch, false, "gzip-9@1000"},
		{Gzip, nil, &epoch, true, "gzip-5=1000"},
		{Zstd, nil, nil, true, "zstd-3"},
		{Uncompressed, nil, &epoch, false, "uncompressed@1000"},
	} {
		enc, err := newEncoder(tc.compression, tc.level)
		if err != nil {
			t.Fatal(err)
		}
		if got := enc.form(tc.epoch, tc.all); got != tc.want {
			t.Errorf("form %q, want %q", got, tc.want)
		}
	}
}

func TestEncoderMade(t *testing.T) {
	for _, tc := range []struct {
		compression Compression
		mediaType   string
		want        bool
	}{
		{Gzip, "application/vnd.oci.image.layer.v1.tar+gzip", true},
		{Gzip, dockerLayer + ".gzip", true},
		{Gzip, dockerLayer, false},
		{Uncompressed, dockerLayer, true},
		{Uncompressed, "application/vnd.oci.image.layer.v1.tar+zstd", false},
		{Zstd, "application/vnd.oci.image.layer.v1.tar+zstd", true},
		{Zstd, "application/vnd.in-toto+json", false},
	} {
		if got := (encoder{compression: tc.compression}).made(tc.mediaType); got != tc.want {
			t.Errorf("%s made %s: %v", tc.compression, tc.mediaType, got)
		}
	}
}

// brokenWriter fails after some bytes.
type brokenWriter struct{ left int }

var errBroken = errors.New("broken")

func (b *brokenWriter) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, errBroken
	}
	b.left -= len(p)
	return len(p), nil
}

// TestEncodersEndAfterErrors runs in a bubble, which does not end before every
// goroutine in it has, and panics if one never will.
func TestEncodersEndAfterErrors(t *testing.T) {
	data := bytes.Repeat(sample(1000), 8<<10) // more than the encoders take in before they write
	for _, compression := range []Compression{Gzip, Zstd, Uncompressed} {
		enc, err := newEncoder(compression, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, left := range []int{0, 10, 500} {
			synctest.Test(t, func(t *testing.T) {
				w, err := enc.writer(&brokenWriter{left})
				if err != nil {
					t.Fatal(err)
				}
				_, err = bytes.NewReader(data).WriteTo(w)
				if cerr := w.Close(); !errors.Is(errors.Join(err, cerr), errBroken) {
					t.Errorf("%s after %d bytes: %v and %v", compression, left, err, cerr)
				}
			})
		}
	}
}
