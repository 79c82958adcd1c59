package native_test

import (
	"testing"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/native"
	"lamina/snapshot/snapshottest"
)

func open(pool *layer.Pool, tmp func() (string, error)) (snapshot.Driver, error) {
	return native.New(pool, tmp), nil
}

func TestDriver(t *testing.T)      { snapshottest.Run(t, open) }
func BenchmarkDriver(b *testing.B) { snapshottest.Benchmark(b, open) }
