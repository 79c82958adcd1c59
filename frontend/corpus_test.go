package frontend

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestCorpus holds that each file beneath the directory LAMINA_DOCKERFILES, which
// ought to be Dockerfiles of the world, is a Dockerfile: it has targets, its checks
// come to their end or to an error with a text, and nothing panics.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("LAMINA_DOCKERFILES")
	if dir == "" {
		t.Skip("LAMINA_DOCKERFILES names no directory of Dockerfiles")
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if list, err := Targets(name, src); err != nil || len(list) == 0 {
			t.Errorf("%d targets, %v", len(list), err)
		}
		report, err := Check(context.Background(), name, src, anything{}, Options{})
		if err != nil {
			return err
		}
		if report.Error != nil && report.Error.Text == "" {
			t.Errorf("%s: an error without a text", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
