package overlay_test

import (
	"testing"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/overlay"
	"lamina/snapshot/snapshottest"
)

func open(pool *layer.Pool, tmp func() (string, error)) (snapshot.Driver, error) {
	return overlay.New(pool, tmp)
}

func TestDriver(t *testing.T)      { snapshottest.Run(t, open) }
func BenchmarkDriver(b *testing.B) { snapshottest.Benchmark(b, open) }
