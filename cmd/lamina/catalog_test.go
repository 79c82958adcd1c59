package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"lamina/cmd/lamina/internal/cli"
)

func TestNoImageIsNotExist(t *testing.T) {
	if err := fmt.Errorf("x: %w", &noImageError{ref: "app"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing image is no fs.ErrNotExist")
	}
	var out bytes.Buffer
	cli.Report(t.Context(), &out, &noImageError{ref: "0123"})
	if want := "lamina: no such image: 0123\nhint: 'lamina images' lists what there is\n"; out.String() != want {
		t.Errorf("it is told as %q, want %q", out.String(), want)
	}
}
