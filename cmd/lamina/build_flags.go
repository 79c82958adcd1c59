package main

import (
	"fmt"
	"net/netip"

	"github.com/docker/go-units"
)

// byteSize is a flag for a number of bytes: "512", "64k", "1.5g", as docker reads it.
type byteSize int64

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return units.BytesSize(float64(*b))
}

func (b *byteSize) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 512m", s)
	}
	*b = byteSize(n)
	return nil
}

// Type names the kind of value in help texts.
func (*byteSize) Type() string { return "bytes" }

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
