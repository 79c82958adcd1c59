package layertar_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"lamina/snapshot/layertar"
)

func BenchmarkApply(b *testing.B) {
	archive := packMany(b, 20_000)
	p, _ := openPool(b)
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		d, err := p.Draft()
		if err != nil {
			b.Fatal(err)
		}
		if err := layertar.Apply(context.Background(), d, bytes.NewReader(archive)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		b.StartTimer()
	}
}

func BenchmarkWrite(b *testing.B) {
	archive := packMany(b, 20_000)
	p, _ := openPool(b)
	d, err := apply(b, p, "l", archive)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		if err := layertar.Write(context.Background(), io.Discard, d, layertar.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// packMany packs n files of 2 KiB, a hundred a directory.
func packMany(b *testing.B, n int) []byte {
	var entries []entry
	data := strings.Repeat("0123456789abcdef", 128)
	for i := range n {
		parent := fmt.Sprintf("usr/lib/d%d/", i/100)
		if i%100 == 0 {
			entries = append(entries, dir(parent))
		}
		entries = append(entries, file(fmt.Sprintf("%sf%d", parent, i), data))
	}
	return pack(b, entries...)
}
