package overlay_test

import (
	"os"
	"testing"

	"lamina/snapshot/overlay"
)

func BenchmarkSupported(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		if err := overlay.Supported(dir); err != nil {
			b.Skip(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		b.Errorf("left behind: %v, %v", left, err)
	}
}
