package cli

import (
	"fmt"

	"github.com/docker/go-units"

	"lamina/cmd/lamina/internal/progress"
)

// ByteSize is a flag for a number of bytes: "512", "64k", "1.5g", as docker reads it.
type ByteSize int64

func (b *ByteSize) String() string {
	if *b == 0 {
		return ""
	}
	return units.BytesSize(float64(*b))
}

func (b *ByteSize) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 512m", s)
	}
	*b = ByteSize(n)
	return nil
}

// Type names the kind of value in help texts.
func (*ByteSize) Type() string { return "bytes" }

// ProgressFlag is --progress, the form of a display.
type ProgressFlag string

func (p *ProgressFlag) String() string { return string(*p) }

func (p *ProgressFlag) Set(s string) error {
	if err := progress.Mode(s).Check(); err != nil {
		return err
	}
	*p = ProgressFlag(s)
	return nil
}

// Type names the kind of value in help texts.
func (*ProgressFlag) Type() string { return "string" }
